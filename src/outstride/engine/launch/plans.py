"""Plans for tensors: the problem they pose, the plan for it on this machine, and the code that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from math import prod

import torch

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.nest import gather_source
from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.launch.matrix_product import Operands, as_product
from outstride.engine.planner.dataflows.unpacked import MOST_FROZEN_BYTES, MOST_ROWS
from outstride.engine.planner.dtypes import WeightAxis
from outstride.engine.planner.plan import GatherPlan, shared_plan, tiles_for
from outstride.engine.planner.problem import Problem
from outstride.engine.runtime import Module, assembly, decline, machine
from outstride.engine.torch_internals import constant_while_traced
from outstride.layer.shortening import choose

__all__ = [
    "DTYPES", "GatherPlan", "assembly_of", "declines", "loop_nest", "plan_of", "posed", "problem_of",
    "source_of", "three", "tile_address", "tile_modules",
]  # fmt: skip

DTYPES = {
    torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"
}  # fmt: skip


#: Channels up to which rows are read where they lie. Of more, those of a tile compete for few sets of the
#: first-level cache: 2048 of 49 rows to 512 outputs 0.95 times as fast, 3072 to 768 0.93.
MOST_READ = 1024
#: Outputs of a group from which they are worth storing as vectors of channels.
CHANNELS_TOGETHER = 8


def three(values: Sequence[int], fill: int) -> tuple[int, int, int]:
    """A tuple of one to three axes as depth, height, width."""
    full = (*([fill] * (3 - len(values))), *(int(v) for v in values))
    return full[0], full[1], full[2]


def problem_of(operands: Operands) -> Problem:
    """The problem that these tensors pose; only their shapes, strides and dtype are looked at."""
    operator, x, w, y, stride, padding, dilation, groups, _, algorithm, _ = operands
    forward = operator == "conv"
    inner, outer = (w.shape[1], w.shape[0] // groups) if forward else (w.shape[0] // groups, w.shape[1])
    depthwise = inner == outer == 1 and groups >= CHANNELS_TOGETHER
    depthwise = depthwise and x.stride(1) == y.stride(1) == 1 and 1 not in (x.stride(-1), y.stride(-1))
    if depthwise:
        outer = _channels_of_a_task(groups)
        groups //= outer
    together = outer >= CHANNELS_TOGETHER
    layer = (tuple(w.shape[2:]), tuple(stride), tuple(dilation), inner, outer, DTYPES[x.dtype])
    short = not depthwise and choose(not forward, *layer, algorithm).short
    return Problem(
        operator, DTYPES[x.dtype], x.shape[0], groups, inner, outer,
        three(x.shape[2:], 1), three(y.shape[2:], 1), three(w.shape[2:], 1),
        three(stride, 1), three(padding, 0), three(dilation, 1),
        "width" if x.stride(-1) == 1 else "channel" if x.stride(1) == 1 else "any",
        "width" if y.stride(-1) == 1 else "channel" if y.stride(1) == 1 and together else "any",
        depthwise, short=short, unpacked=_weight_axis(operands), rows=_lies_in_rows(operands),
    )  # fmt: skip


def _lies_in_rows(operands: Operands) -> bool:
    """Whether the input is a matrix whose rows lie one behind the other, of the type of the sums."""
    _, x, w, _, stride, padding, _, groups, *_ = operands
    is_matrix = x.dim() == 3 and x.shape[0] == groups == w.shape[2] == stride[0] == 1 and padding[0] == 0
    if not (is_matrix and x.stride(1) == 1 and x.stride(2) == x.shape[1]):
        return False
    return 1 < x.shape[1] <= MOST_READ and x.dtype in (torch.float32, torch.float64)


def _weight_axis(operands: Operands) -> WeightAxis | None:
    """The axis that the weights of a matrix have side by side, where few rows read them as they lie."""
    operator, x, w, y, stride, padding, _, groups, *_ = operands
    *others, rows = x.shape[0], *x.shape[2:]
    is_matrix = groups == w.shape[2:].numel() == prod(others) == 1 and x.shape[2:] == y.shape[2:]
    is_matrix = is_matrix and not any(padding) and (rows == 1 or all(step == 1 for step in stride))
    side_by_side = x.stride(1) == y.stride(1) == 1
    if not (is_matrix and side_by_side and x.dtype in (torch.float32, torch.float64)):
        return None
    is_far = operands.changes == "never" and w.nbytes > MOST_FROZEN_BYTES
    if is_far or rows > MOST_ROWS[operands.changes]:
        return None
    channel, output = w.stride()[:2][::-1] if operator == "conv" else w.stride()[:2]
    return "channel" if channel == 1 else "output" if output == 1 else None


def _channels_of_a_task(channels: int) -> int:
    """Channels of a depthwise layer that are packed together: whole tiles of them, or all."""
    return max((n for n in range(32, 129, 32) if channels % n == 0), default=channels)


def posed(operands: Operands) -> tuple[Operands, Problem]:
    """The operands as they run, a matrix product where they are one, and the problem that they pose.

    A layer that is computed by short algorithms is so at every size.
    """
    problem = problem_of(operands)
    if problem.short:
        return operands, problem
    product = as_product(operands)
    return product, problem if product is operands else problem_of(product)


def plan_of(operands: Operands, threads: int) -> GatherPlan:
    """The plan for these operands; meta tensors will do."""
    return shared_plan(posed(operands)[1], machine(), threads)


def source_of(plan: GatherPlan) -> str:
    """The code of the plan's kernel: its loop nest, and the register tile that it calls."""
    return "".join(_sources(plan))


def _sources(plan: GatherPlan) -> list[str]:
    """The modules of a plan's code; some kernels have their tiles within."""
    tiles = () if plan.dataflow.tile_module is None else (plan.tile,)
    isa = plan.machine.instruction_set
    return [gather_source(plan.recipe), *(tiles_source(_accumulator(plan), isa, (tile,)) for tile in tiles)]


def _accumulator(plan: GatherPlan) -> str:
    return "float64" if plan.problem.dtype == "float64" else "float32"


def loop_nest(plan: GatherPlan) -> Module:
    """The module of a plan's kernel."""
    source = partial(gather_source, plan.recipe)
    return Module(f"gather_{plan.recipe.name}", source, plan.machine.instruction_set, authorship())


def tile_modules(plan: GatherPlan) -> list[Module]:
    """Every tile that the layer may use at some size is compiled at once: another size compiles nothing.

    None where the kernel has its tiles within.
    """
    isa, name = plan.machine.instruction_set, _accumulator(plan)
    modules = []
    for module, of_module in groupby(tiles_for(plan.problem, plan.machine), lambda t: t.dataflow.tile_module):
        if module is None:
            continue
        tiles = tuple(of_module)
        variants = "_".join(dict.fromkeys(tile.variant for tile in tiles))
        source, symbols = partial(tiles_source, name, isa, tiles), [tile.name for tile in tiles]
        modules.append(Module(f"tiles_{variants}_{name}", source, isa, authorship(), symbols))
    return modules


def tile_address(plan: GatherPlan, modules: Sequence[Module]) -> int:
    """Where the plan's tile is, in one of its modules of tiles, or 0."""
    for module in modules:
        if plan.tile.name in module.symbols:
            return module.addresses()[module.symbols.index(plan.tile.name)]
    return 0


def assembly_of(plan: GatherPlan) -> str:
    """What the compiler makes of the plan's code on this machine."""
    return "".join(assembly(source, plan.machine.instruction_set) for source in _sources(plan))


def declines(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the engine does not serve tensors of this dtype and device, or nothing."""
    if dtype not in DTYPES:
        return f"the engine computes {', '.join(DTYPES.values())}, not {str(dtype).removeprefix('torch.')}"
    if device.type not in ("cpu", "meta"):
        return f"the engine runs on the cpu, not on {device.type}"
    return _host_declines()


@constant_while_traced
def _host_declines() -> str | None:
    """Why no kernel runs here, or nothing: found by running some, which a tracer is not to follow."""
    return decline()
