"""Contractions with the steps that follow them, in one kernel: the bits are those of torch's own operators.

Where a kernel cannot have those bits, the plain contraction runs and torch's operators after it: where this
build of torch computes a step in another way, where sums or weights are not finite, where a result is spread
out, and where an operand is not of the result's type or has to be stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor

from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.execute import GatherRun, Geometry, bound, changes_of, gather_run
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.matrix_product import Changes
from outstride.engine.launch.memory_format import result_format
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.launch.steps.check import declined
from outstride.engine.planner.epilogue import Epilogue
from outstride.engine.planner.steps import OperandForm, Step, operand_forms
from outstride.engine.runtime import chosen, decline, resolved
from outstride.engine.torch_internals import tensor_guard
from outstride.layer.shortening import AlgorithmName

__all__ = ["FUSED", "FusedRun", "OperandForm", "Step", "fused", "fused_run", "operand_forms"]

FUSED: CallCache[object, FusedRun] = CallCache("fused calls")


def fused(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], output_size: Sequence[int], dilation: Sequence[int],
    groups: int, algorithm: AlgorithmName, steps: Sequence[Step], operands: Sequence[Tensor],
    out: Tensor | None = None, before: Sequence[Step] = (),
) -> Tensor:  # fmt: skip
    """A contraction among steps, with the bits of torch's operators, `execute.conv` and torch's operators.

    Nothing is recorded for backward.

    Args:
        operator, x, w, bias, stride, padding, output_size, dilation, groups, algorithm: as of
            `execute.gather_run`: plain tensors on the CPU.
        steps: what follows, in its order.
        operands: those that the steps are given, in the order of the steps: vectors over the output channels
            and tensors of the result's shape.
        out: memory of the result's shape for it, in any strides. It may be an operand of a step, the same
            elements in the same places: every way out reads an element of it where it then writes that
            element, once. Short algorithms then write beside it and copy, for sums that are not finite are
            computed anew. It must not share memory with x, w, bias or a vector.
        before: what is done to x, in its order: steps without operands that give 0 for 0.

    Returns:
        (N, C, *output_size), `out` if it is given.

    Raises:
        ValueError: if there are not as many operands as the steps are given.
    """
    run = fused_run(
        operator, x, w, stride, padding, output_size, dilation, groups, algorithm, steps, out, before
    )
    return run(x, w, bias, operands, out)


class FusedRun:
    """A contraction and the steps that follow it, for operands of one set of shapes and strides."""

    def __init__(
        self, run: GatherRun | None, steps: tuple[Step, ...], plain: Callable[[Tensor, Tensor], GatherRun],
        reason: str | None, before: tuple[Step, ...] = (), strides: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        call = None if run is None else run.call
        self._run = run
        self._call = call
        self._steps = steps
        self._before = before
        self._strides = strides
        self._plain = plain
        self._forms = operand_forms(steps)
        #: Why torch's own operators do the steps; None: the kernel does.
        self.declined = (
            reason if reason or call is not None else "there is nothing to sum, or it is spread out"
        )
        #: Whether a tensor that is given as `out`, too, is written in its place.
        self.writes_in_place = call is not None and not call.is_short
        #: A test whether operands are like ones that the kernel takes as they are.
        self._guard: Callable[..., bool] | None = None

    def __call__(
        self, x: Tensor, w: Tensor, bias: Tensor | None, operands: Sequence[Tensor], out: Tensor | None = None
    ) -> Tensor:
        """The result, in `out` if there is one."""
        if len(operands) != len(self._forms):
            raise ValueError(
                "'operands' must be one tensor for each operand that the steps are given: "
                f"got {len(operands)}; legal: {len(self._forms)}"
            )
        run, call = self._run, self._call
        given = None if run is None or call is None else self._as_taken(run, operands)
        if run is None or call is None or given is None:
            return self._by_torch(x, w, bias, operands, out)
        apart = out is not None and not self.writes_in_place and self._is_operand(out, given)
        result = run.empty() if out is None or apart else out
        if not call(x, w, bias, result, given):
            return self._by_torch(x, w, bias, operands, out)
        return result if out is None or not apart else out.copy_(result)

    def launch(self, x: At, w: At, bias: At | None, operands: Sequence[At], y: At) -> Launch | None:
        """What a call launches, for a result apart from its operands; None where it does more than that."""
        given = [operand.tensor for operand in operands]
        taken = None if self._run is None or self._call is None else self._as_taken(self._run, given)
        if self._run is None or taken is None or any(a is not b for a, b in zip(taken, given, strict=True)):
            return None
        return self._run.launch(x, w, bias, y, operands)

    def _as_taken(self, run: GatherRun, operands: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """The operands as the kernel takes them; None where it does not."""
        if self._guard is not None and self._guard(*operands):
            return operands
        taken = []
        left = iter(operands)
        for step in self._steps:
            for form in step.given:
                operand = _taken(run, step, form, next(left))
                if operand is None:
                    return None
                taken.append(operand)
        if taken and all(a is b for a, b in zip(taken, operands, strict=True)):
            self._guard = tensor_guard(*operands)
        return taken

    def _is_operand(self, out: Tensor, operands: Sequence[Tensor]) -> bool:
        there = out.data_ptr()
        return any(
            form == "tensor" and operand.data_ptr() == there
            for form, operand in zip(self._forms, operands, strict=True)
        )

    def _by_torch(
        self, x: Tensor, w: Tensor, bias: Tensor | None, operands: Sequence[Tensor], out: Tensor | None
    ) -> Tensor:
        """The plain contraction, and torch's operators after it."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            x = by_torch(x, self._before, ())
            result = by_torch(self._plain(x, w)(x, w, bias), self._steps, operands)
            if out is None and self._strides not in (None, result.stride()):
                out = torch.empty_strided(result.shape, self._strides, dtype=result.dtype)
            return result if out is None else out.copy_(result)


def fused_run(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, stride: Sequence[int],
    padding: Sequence[int], output_size: Sequence[int], dilation: Sequence[int], groups: int,
    algorithm: AlgorithmName, steps: Sequence[Step], out: Tensor | None = None, before: Sequence[Step] = (),
    *, rewritten: bool = False, threads: int | None = None,
) -> FusedRun:  # fmt: skip
    """What computes `operator` and the steps for operands like these, by default on as many threads as torch.

    A weight that is `rewritten` before each call is not worth packing for some rows.
    """
    changes = changes_of(w, rewritten=rewritten)
    threads, algorithm = threads or torch.get_num_threads(), resolved(algorithm)
    key = (
        operator, x.dtype, x.shape, x.stride(), w.shape, w.stride(), stride, padding, output_size, dilation,
        groups, algorithm, None if out is None else out.stride(), threads, chosen(), steps, before,
        changes,
    )  # fmt: skip
    try:
        run = FUSED.get(key)
    except TypeError:  # sizes or steps came as lists
        sizes = (tuple(stride), tuple(padding), tuple(output_size), tuple(dilation))
        return fused_run(
            operator, x, w, *sizes, groups, algorithm, tuple(steps), out, tuple(before), rewritten=rewritten,
            threads=threads,
        )  # fmt: skip
    if run is None:
        geometry: Geometry = (stride, padding, dilation, groups, algorithm)
        given = (operator, x, w, tuple(output_size), geometry, tuple(steps), tuple(before), out, threads)
        run = _made(*given, changes)
        FUSED.keep((operator, x.dtype, w.shape, geometry, steps, before), key, run)
    return run


def _made(
    operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, output_size: Sequence[int],
    geometry: Geometry, steps: tuple[Step, ...], before: tuple[Step, ...], out: Tensor | None, threads: int,
    changes: Changes,
) -> FusedRun:  # fmt: skip
    stride, padding, dilation, groups, algorithm = geometry

    def plain(x: Tensor, w: Tensor) -> GatherRun:
        return gather_run(operator, x, w, stride, padding, output_size, dilation, groups, algorithm)

    channels = w.shape[0] if operator == "conv" else w.shape[1] * groups
    count = x.shape[0] * channels * prod(output_size)
    reason = decline() or declined(before, x.dtype, x.numel()) or declined(steps, x.dtype, count)
    if x.dim() == 3 and _has_batch_norm(steps):
        like = torch.empty_like(x) if before else x  # what torch's operators make of it
        if result_format(like, w) != torch.contiguous_format:
            reason = "torch computes a batch norm of such strides in another way"
    if not all(step.keeps_zero for step in before):
        reason = "a step before a layer must give 0 for 0, as padding is"
    epilogue = Epilogue(steps=steps)
    run = None
    if reason is None:
        given = (operator, x, w, output_size, geometry, out, threads, epilogue, before)
        run = bound(*given, changes=changes)
    return FusedRun(run, steps, plain, reason, before, None if out is None else out.stride())


def _taken(run: GatherRun, step: Step, form: OperandForm, operand: Tensor) -> Tensor | None:
    """An operand as a kernel takes it; None where it does not."""
    if operand.dtype != run.dtype:
        return None
    if form == "tensor":
        return _laid_out(run, operand) if operand.shape == run.shape else None
    if operand.numel() != run.shape[1]:
        alone = step.kind == "prelu" and operand.numel() == 1
        return operand.expand(run.shape[1]).contiguous() if alone else None
    if operand.is_contiguous():
        return operand
    # Torch has another way to compute a batch norm for these.
    return None if step.kind == "batch_norm" else operand.contiguous()


def _laid_out(run: GatherRun, operand: Tensor) -> Tensor:
    """A tensor as the result lies; sizes of one have no stride to speak of."""
    axes = zip(run.shape, operand.stride(), run.strides, strict=True)
    if all(n == 1 or a == b for n, a, b in axes):
        return operand
    return torch.empty_strided(run.shape, run.strides, dtype=operand.dtype).copy_(operand)


def _has_batch_norm(steps: Sequence[Step]) -> bool:
    return any(step.kind == "batch_norm" for step in steps)
