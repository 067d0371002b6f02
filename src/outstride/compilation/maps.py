"""Stages beside convolutions: pooling, chains of steps, resizing and shuffling, with torch's own bits.

A kernel of these may decline a tensor, by its layout or its size, which may be known only when it comes. Then
torch's operators run, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from operator import getitem
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from outstride.compilation.chains import NOTHING, chain
from outstride.compilation.stages import Bound, Reads, Stage
from outstride.compilation.steps import readings
from outstride.compilation.values import Operator, count_of, dtype_of, fixed, is_tensor, only_first, shape
from outstride.compilation.wording import why_declined
from outstride.engine.launch.fused import OperandForm, operand_forms
from outstride.engine.launch.maps import pointwise, pooling, rearrangement
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.launch.steps.check import declined

_MOST_SEEN = 64
Kernel = Callable[..., Tensor]


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if a kernel does it."""
    operator = Operator.of(node)
    found = _STARTS.get(operator.name)
    if found is not None and node.target is not getitem:
        return found(operator, fuse, taken)
    return _steps(node, fuse, taken)


class _Tried:
    """A kernel that is asked for each kind of tensor whether it takes it, and torch's operators where not."""

    def __init__(
        self, find: Callable[..., Bound], declines: Callable[..., str | None], torchs: Kernel, *,
        into: bool = False,
    ) -> None:  # fmt: skip
        """What `torchs` is called with may hold `out`, where it writes `into` that."""
        self._find, self._declines, self._torchs, self._into = find, declines, torchs, into
        self._seen = dict[Any, bool]()

    def bind(self, values: Sequence[Any], _: Tensor | None) -> Bound:
        """What computes values like these."""
        key = tuple((value.shape, value.stride()) for value in values if isinstance(value, Tensor))
        takes = self._seen.get(key)
        if takes is None:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            takes = self._seen[key] = self._declines(*values) is None
        return self._find(*values) if takes else Bound(self._by_torch)

    def _by_torch(self, *values: Any, out: Tensor | None = None) -> Tensor:
        if self._into:
            return self._torchs(*values, out=out)
        result = self._torchs(*values)
        return result if out is None else out.copy_(result)

    def reason(self, nodes: tuple[Node | None, ...]) -> str:
        """Why the kernel declines values like these, if it is known before they come."""
        values = [None if node is None else node.meta["val"] for node in nodes]
        if any(not isinstance(n, int) for v in values if isinstance(v, Tensor) for n in v.shape):
            return ""
        return why_declined(self._declines(*values) or "")


def _max_pool(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    del fuse, taken
    node = operator.node
    result = only_first(node)
    if result is None:
        return None
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    numbers = [fixed(operator.argument(name)) for name in names]
    numbers[1] = numbers[1] or numbers[0]
    source = operator.argument("self")
    target: Any = node.target
    tried = _Tried(
        lambda x: of_one(pooling.pooling_run("max", x, *numbers)),
        lambda x: pooling.max_pool_declines(x, *numbers),
        lambda x: target(x, *numbers)[0],
    )
    return _ours((node, result), (source,), tried, "pool", "a pool does no steps", alike=(0,))


def _avg_pool(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    del fuse, taken
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    numbers = [fixed(operator.argument(name)) for name in names]
    numbers[1] = numbers[1] or numbers[0]
    target: Any = operator.target
    tried = _Tried(
        lambda x: of_one(pooling.pooling_run("average", x, *numbers[:3], 1, *numbers[3:])),
        lambda x: pooling.avg_pool_declines(x, *numbers),
        lambda x: target(x, *numbers),
    )
    return _ours((operator.node,), (operator.argument("self"),), tried, "pool", "a pool does no steps")


def _pixel_shuffle(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    del fuse, taken
    source, factor = operator.args
    if not isinstance(factor, int) or len(shape(source)) != 4:
        return None
    target: Any = operator.target
    shuffles = operator.name == "aten.pixel_shuffle"
    find = rearrangement.shuffle_run if shuffles else rearrangement.unshuffle_run
    tried = _Tried(
        lambda x: of_one(find(x, factor)),
        rearrangement.rearrangement_declines,
        lambda x: target(x, factor),
    )
    return _ours((operator.node,), (source,), tried, "shuffle", "a shuffle does no steps")


def _nearest(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """Resizing by factors, or to sizes that are numbers."""
    del fuse, taken
    source, sizes, *factors = operator.args
    exact = operator.name.startswith("aten._upsample_nearest_exact")
    mode: rearrangement.Nearest = "nearest-exact" if exact else "nearest"
    by_factors = len(factors) == len(sizes) and None not in factors
    given: tuple[Any, Any] = (None, tuple(factors)) if by_factors else (tuple(sizes), None)
    if given[0] is not None and not all(isinstance(size, int) for size in given[0]):
        return None
    tried = _Tried(
        lambda x: of_one(rearrangement.nearest_run(x, *given, mode)),
        rearrangement.rearrangement_declines,
        lambda x: F.interpolate(x, *given, mode=mode),
    )
    return _ours((operator.node,), (source,), tried, "resize", "a resize does no steps")


def _steps(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """Steps on a tensor that something else made."""
    nodes: tuple[Node, ...] = (node,)
    if not is_tensor(node):  # a batch norm, with its first result
        if len(node.users) != 1:
            return None
        nodes = (node, *node.users)
    reading = None if nodes[0].target is getitem else next(readings(nodes[-1]), None)
    if reading is None or len(shape(nodes[-1])) < 3:
        return None
    # What torch computes in another way where elements fill no vector is a launch of its own there.
    count = count_of(nodes[-1])
    is_met = declined((reading.step,), dtype_of(nodes[-1]), count) is None
    behind = chain(nodes[-1], taken) if fuse and is_met else NOTHING
    steps = (reading.step, *behind.steps)
    forms = operand_forms(steps)

    def find(x: Tensor, *_: Tensor) -> Bound:
        run = pointwise.pointwise_run(steps, x)

        def done(x: Tensor, *operands: Tensor, out: Tensor | None = None) -> Tensor:
            return run(x, flat_operands(forms, operands), out)

        return Bound(done, lambda at, y: run.launch(at[0], at[1:], y))

    tried = _Tried(
        find,
        lambda x, *operands: pointwise.pointwise_declines(steps, x, flat_operands(forms, operands)),
        lambda x, *operands, out: by_torch(x, steps, flat_operands(forms, operands), out),
        into=True,
    )
    given = (reading.value, *reading.operands, *behind.operands)
    elements = [number for number, form in enumerate((None, *forms)) if form != "channel"]
    # Which elements fill no vector depends on how they lie.
    has_ends = any(step.has_ends for step in steps) and (count is None or not is_met)
    alike = () if has_ends else elements
    return _ours((*nodes, *behind.nodes), given, tried, "pointwise", behind.reason, alike=alike)


def _ours(
    nodes: tuple[Node, ...], values: tuple[Node, ...], tried: _Tried, label: str, behind: str,
    alike: Sequence[int] = (), free: int | None = None,
) -> Stage:  # fmt: skip
    """A stage whose kernel is called with these values, some of which may be the same.

    Its bits do not depend on the formats of those that must lie `alike`, and as its result, or are `free`.
    """
    inputs = tuple(dict.fromkeys(values))
    reason = tried.reason(values)
    places = tuple(inputs.index(value) for value in values)

    def bind(given: Sequence[Any], out: Tensor | None) -> Bound:
        bound = tried.bind([given[place] for place in places], out)
        if len(inputs) == len(values):
            return bound
        return Bound(
            lambda *given, out=None: bound.run(*[given[place] for place in places], out=out),
            lambda at, y: bound.launch([at[place] for place in places], y),
        )

    def run(*given: Any, out: Tensor | None = None) -> Any:
        return bind(given, out).run(*given, out=out)

    label = "torch" if reason else label
    together = tuple(dict.fromkeys(places[number] for number in alike))
    depends = (together or free is not None) and not reason
    formats = Reads(together, None if free is None else places[free]) if depends else None
    return Stage(nodes, inputs, run, label, reason or behind, takes_out=True, bind=bind, formats=formats)


def of_one(run: Any) -> Bound:
    """What computes a stage of one value: what runs, and tells what it launches, takes it and a result."""
    return Bound(run, lambda at, y: run.launch(at[0], y))


def tried_stage(
    nodes: tuple[Node, ...], values: tuple[Node, ...], find: Callable[..., Bound],
    declines: Callable[..., str | None], torchs: Kernel, label: str, behind: str, *, free: int | None = None,
) -> Stage:  # fmt: skip
    """A stage whose kernel ``find`` looks up for these values, or torch's operators where it declines them.

    The bits of its result do not depend on the format of a `free` value.
    """
    return _ours(nodes, values, _Tried(find, declines, torchs), label, behind, free=free)


def flat_operands(forms: Sequence[OperandForm], operands: Sequence[Tensor]) -> list[Tensor]:
    """Operands, those over channels as vectors."""
    return [
        operand.view(-1) if form == "channel" and operand.dim() != 1 else operand
        for form, operand in zip(forms, operands, strict=True)
    ]


_STARTS: dict[str, Callable[[Operator, bool, Container[Node]], Stage | None]] = {
    "aten.max_pool2d_with_indices": _max_pool,
    "aten.max_pool3d_with_indices": _max_pool,
    "aten.avg_pool2d": _avg_pool,
    "aten.avg_pool3d": _avg_pool,
    "aten.pixel_shuffle": _pixel_shuffle,
    "aten.pixel_unshuffle": _pixel_shuffle,
}
for _axes in (1, 2, 3):
    for _name in ("upsample_nearest", "_upsample_nearest_exact"):
        _STARTS[f"aten.{_name}{_axes}d"] = _nearest
