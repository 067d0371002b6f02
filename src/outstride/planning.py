"""`outstride.plan`: what would run for a layer at a size, why, what it costs; or why the engine declines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Literal

import torch

from outstride.engine.dispatch.call import Arguments, check
from outstride.engine.launch.compaction import compacted
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.memory_format import empty_result
from outstride.engine.launch.plans import GatherPlan, assembly_of, declines, plan_of, source_of
from outstride.engine.runtime import resolved
from outstride.engine.runtime.host import clock
from outstride.errors import ArgumentError
from outstride.layer import arguments
from outstride.layer.shortening import ALGORITHMS, AlgorithmName, Choice, choose
from outstride.models.operators import convolution
from outstride.nn.serving import algorithm_of
from outstride.output.tables import html_text

_NOTHING = "the layer has no weights, so there is nothing to sum: the result is the bias"


@dataclass(frozen=True)
class KernelPlan:
    """What would run for a layer at a size, printable; `declines` says why nothing of the engine would."""

    layer: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    nd: int
    dtype: str
    declines: str | None
    detail: GatherPlan | None
    #: Where stride or dilation leave most positions of an axis unused: the size without them.
    used_size: tuple[int, ...] | None = None
    #: What the layer is to be computed by.
    algorithm: AlgorithmName = "auto"
    #: Whether it takes short algorithms, and why.
    choice: Choice | None = None

    @property
    def source(self) -> str:
        """The generated code: LLVM IR as text.

        Raises:
            ArgumentError: the engine declines the layer, so there is no code.
        """
        return source_of(self._accepted())

    @property
    def assembly(self) -> str:
        """What the compiler makes of it on this machine."""
        return assembly_of(self._accepted())

    @property
    def flops(self) -> int:
        """Floating-point operations that the result needs: two for each multiply-add, padding not counted."""
        return self.detail.problem.flops if self.detail else 0

    @property
    def predicted_ms(self) -> float | None:
        """What the predicted cycles take at the stated clock rate; None where the system states none."""
        stated = clock()
        return self.detail.predicted_cycles / stated[0] * 1e3 if self.detail and stated else None

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        facts: dict[str, Any] = {
            "layer": self.layer, "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape), "dtype": self.dtype, "algorithm": self.algorithm,
            "declines": self.declines,
        }  # fmt: skip
        plan = self.detail
        if plan is None:
            return facts
        problem, blocking, recipe = plan.problem, plan.blocking, plan.recipe
        hertz, stated_by = clock() or (None, None)
        return facts | {
            "operator": problem.operator, **self._choice_facts(),
            "used_size": None if self.used_size is None else list(self.used_size),
            "output_size": list(self.output_shape[-self.nd :]),
            "flops": problem.flops, "bytes": problem.bytes,
            "kernel": f"gather_{recipe.name}", "instruction_set": recipe.instruction_set,
            "dataflow": plan.dataflow.name, "register_tile": [plan.tile.rows, plan.tile.vectors],
            "lanes": plan.lanes,
            "phase_groups": [{"phases": g.phases, "taps": g.taps} for g in plan.groups],
            "box": list(blocking.box), "ranges": [[count for _, count in along] for along in blocking.ranges],
            "groups_per_task": blocking.groups_per_task,
            "channels_per_pass": blocking.channels_per_pass,
            "strip_bytes": blocking.strip.elements * (8 if self.dtype == "float64" else 4),
            "outputs_per_chunk": blocking.chunk_outputs, "stored_by_tiles": blocking.direct,
            "lines_prefetched": plan.prefetch.lines * plan.prefetch.rows,
            "tasks": plan.tasks, "threads": plan.threads,
            "predicted_cycles": round(plan.predicted_cycles), "predicted_ms": self.predicted_ms,
            "clock_hz": hertz, "clock_stated_by": stated_by,
        }  # fmt: skip

    def _choice_facts(self) -> dict[str, Any]:
        """What each axis is computed by, and what that saves."""
        assert self.detail is not None
        short = self.detail.recipe.short[-self.nd :]
        return {
            "axis_algorithms": [list(a.algorithms) or ["direct"] for a in short] or [["direct"]] * self.nd,
            "products": prod(len(axis.products) for axis in short) if short else None,
            "outputs_of_products": prod(axis.out_step for axis in short) if short else None,
            "algorithm_reason": None if self.choice is None else self.choice.reason,
        }  # fmt: skip

    def __str__(self) -> str:
        head = f"{self.layer} on {self.input_shape} {self.dtype}"
        if self.detail is None:
            instead = "" if self.declines == _NOTHING else "; torch runs it"
            return f"{head}\n  declines: {self.declines}{instead}"
        return "\n".join([head, *(f"  {name:14}{words}" for name, words in _lines(self))])

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def _accepted(self) -> GatherPlan:
        if self.detail is None:
            raise ArgumentError(
                f"'layer' must be one that the engine serves: got {self.layer}; {self.declines}."
            )
        return self.detail


def plan(layer: torch.nn.Module, input_shape: Sequence[int], *, algorithm: str | None = None) -> KernelPlan:
    """Plan a layer at an input shape; nothing is run or allocated.

    Args:
        layer: a convolution or transposed convolution of torch or of this package.
        input_shape: (N, C, *size), or (C, *size).
        algorithm: "auto" or "direct"; what the layer asks for where not given.

    Returns:
        The plan; print it, or read its `source`, `assembly`, `flops` and `to_dict()`.

    Raises:
        ArgumentError: `layer` is no convolution, `algorithm` none of its names.
        ShapeError: the shape does not fit the layer.

    Example:
        >>> print(plan(torch.nn.Conv2d(3, 8, 3).to(torch.complex64), (1, 3, 8, 8)))
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1)) on (1, 3, 8, 8) complex64
          declines: the engine computes float32, float64, bfloat16, float16, not complex64; torch runs it
    """
    if not isinstance(layer, convolution.LAYERS):
        raise ArgumentError(
            f"'layer' must be a convolution or transposed convolution: got {type(layer).__name__}; "
            "legal: Conv1d to 3d, ConvTranspose1d to 3d"
        )
    if isinstance(layer.weight, torch.nn.parameter.UninitializedParameter):
        raise ArgumentError(
            f"'layer' must know its weights: got {type(layer).__name__} that has seen no input; "
            "legal: call it once before"
        )
    input_shape = arguments.shape("input_shape", input_shape, 0)
    asked = algorithm_of(layer) if algorithm is None else algorithm
    arguments.choice("algorithm", asked, ALGORITHMS)
    weight, bias = layer.weight, layer.bias
    transposed = isinstance(layer, convolution.TRANSPOSED)
    nd = weight.dim() - 2
    call = check(
        nd, transposed, tuple(input_shape), tuple(weight.shape), None if bias is None else tuple(bias.shape),
        Arguments(
            layer.stride, layer.padding, layer.dilation, layer.groups,
            layer.output_padding if transposed else 0, None, layer.padding_mode, asked,
        ),
    )  # fmt: skip
    made = weight.shape[1] * layer.groups if transposed else weight.shape[0]
    shape = (*input_shape[: -nd - 1], made, *call.output_size)
    name = str(weight.dtype).removeprefix("torch.")
    reason, named = declines(weight.dtype, weight.device), resolved(call.algorithm)
    if reason is not None:
        return KernelPlan(repr(layer), tuple(input_shape), shape, nd, name, reason, None, None, named)
    batch = input_shape[0] if call.batched else 1
    operator: Literal["conv", "conv_transpose"] = "conv_transpose" if transposed else "conv"
    size = tuple(input_shape[-nd:])
    if call.bordered and not transposed:
        size = tuple(i + low + high for i, (low, high) in zip(size, call.pairs, strict=True))
    x = torch.empty((batch, input_shape[-nd - 1], *size), dtype=weight.dtype, device="meta")
    w = torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device="meta")
    y = empty_result((batch, made, *call.contracted_size), x, w)
    if not w.numel():
        return KernelPlan(repr(layer), tuple(input_shape), shape, nd, name, _NOTHING, None, None, named)
    threads = torch.get_num_threads()
    geometry = (call.stride, call.padding, call.dilation, call.groups)
    operands = Operands(operator, x, w, y, *geometry, algorithm=named)
    runs, how = compacted(operands)
    detail = plan_of(runs, threads)
    used = None if how is None else how.size
    choice = choose(
        transposed, tuple(weight.shape[2:]), call.stride, call.dilation, x.shape[1] // call.groups,
        made // call.groups, name, named,
    )  # fmt: skip
    return KernelPlan(repr(layer), tuple(input_shape), shape, nd, name, None, detail, used, named, choice)


#: What cells lie along, axis by axis.
_CELLS = ("planes", "rows", "columns")


def _lines(whole: KernelPlan) -> list[tuple[str, str]]:
    """The plan in words, each with its reason."""
    plan = whole.detail
    assert plan is not None
    problem, recipe, blocking = plan.problem, plan.recipe, plan.blocking
    more = ", ..." if len(plan.groups) > 4 else ""
    groups = ", ".join(f"{g.phases} x {g.taps}" for g in plan.groups[:4]) + more
    groups += " (phases sharing taps x taps)"
    if problem.short:
        groups = f"{len(plan.groups)} products of a cell, each of one plane of sums of inputs"
    in_blocks = "one by one" if problem.short else "in blocks of 64"
    tile = plan.dataflow.in_words(plan.tile, plan.lanes)
    kilobytes = blocking.strip.elements * (8 if problem.dtype == "float64" else 4) / 1024
    passes = ceil(problem.channels / blocking.channels_per_pass)
    lost = 1 - useful_share(plan)
    alone = "Transpose" in whole.layer and problem.operator == "conv"
    stored = ", by nontemporal stores" * problem.nontemporal
    stored += ", stored by the tiles as they are summed" * blocking.direct
    lines = plan.prefetch.lines * plan.prefetch.rows
    prefetched = f"; {lines} lines of the next are prefetched before each tile" * (lines > 0)
    together = f" of {blocking.groups_per_task} groups" * (blocking.groups_per_task > 1)
    box = " x ".join(map(str, blocking.box))
    names = [name for name, along in zip(_CELLS, blocking.ranges, strict=True) if len(along) > 1]
    widths = [", ".join(str(count) for _, count in along) for along in blocking.ranges if len(along) > 1]
    ranges = " and ".join(f"{counts} {name}" for counts, name in zip(widths, names, strict=True))
    apart = f"; ranges of {ranges} use other taps" * bool(ranges)
    side = "output" if problem.operator == "conv_transpose" else "input"
    used = f", on the {whole.used_size} positions of the {side} that are used" * bool(whole.used_size)
    product = ", a matrix product, for there is one input position" * alone
    return [
        (
            "result",
            f"{whole.output_shape} by {problem.operator}{product}{used}{stored}",
        ),
        ("algorithm", _algorithm(whole)),
        ("bound", _bound(plan)),
        ("work", f"{problem.flops / 1e6:.4g} MFLOP on at least {problem.bytes / 1e6:.4g} MB"),
        (
            "phases",
            f"{groups}; {problem.channels} channels summed {in_blocks}",
        ),
        ("register tile", f"{tile} ({recipe.instruction_set}); {lost:.1%} of its lanes are lost to edges"),
        ("box", f"{box} cells (images, depth, height, width){together} a task{apart}"),
        (
            "strip",
            f"{kilobytes:.0f} KB of packed input, {passes} pass(es) over the channels{prefetched}"
            if plan.dataflow.packs(problem)
            else "none: the input is read where it lies",
        ),
        ("tasks", f"{plan.tasks} on {min(plan.threads, plan.tasks)} of {plan.threads} threads"),
        ("predicted", _predicted(whole)),
        ("kernel", f"gather_{recipe.name}, {plan.tile.name}"),
    ]


def _algorithm(whole: KernelPlan) -> str:
    """What each axis is computed by, and why."""
    assert whole.detail is not None
    assert whole.choice is not None
    short = whole.detail.recipe.short[-whole.nd :]
    if not short:
        return f"direct: {whole.choice.reason}"
    axes = " x ".join(" | ".join(axis.algorithms) or "direct" for axis in short)
    return f"{axes}: {whole.choice.reason}"


def _bound(plan: GatherPlan) -> str:
    """How far law 1 lets the result be off, in unit round-offs of what it is summed in."""
    problem, short = plan.problem, plan.recipe.short
    if short:
        chain = f"{problem.channels} channels + {sum(axis.additions for axis in short)} additions"
        return f"2u (K + 1) times the same sums of absolute values; K = {chain}"
    taps = max((group.taps for group in plan.groups), default=0)
    return f"2u (K + 1) times the sum of the absolute terms; K = {problem.channels} channels x {taps} taps"


def _predicted(whole: KernelPlan) -> str:
    assert whole.detail is not None
    cycles = f"{whole.detail.predicted_cycles / 1e6:.4g} million cycles a thread"
    stated = clock()
    if stated is None:
        return f"{cycles}; this system states no clock rate"
    return f"{cycles}: {whole.predicted_ms:.3g} ms at {stated[0] / 1e9:.3g} GHz, as {stated[1]} states"


def useful_share(plan: GatherPlan) -> float:
    """The part of the multiply-adds of all register tiles that the result needs."""
    problem = plan.problem
    done = plan.tile_work * problem.channels
    needed = problem.terms
    if problem.short:
        products = prod(a.cells * a.in_step for a in plan.axes)
        needed = problem.batch * problem.groups * problem.channels * problem.outputs * products
    return needed / done if done else 1.0


__all__ = ["KernelPlan", "plan"]
