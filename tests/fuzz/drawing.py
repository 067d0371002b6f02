"""Case number n of a seed: layers, a few neighbouring numbers each, on sizes and in settings of their own.

Neighbours share a layer and its dtype, so that they share its kernels: another size compiles none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from outstride.engine import runtime
from tests.cases import Case
from tests.environments import THREADS
from tests.fuzz.dice import Dice
from tests.fuzz.drawn import ALGORITHMS, DTYPES, Drawn, Setting
from tests.guard import Edge
from tests.layouts import FAITHFUL, REPEATING

#: Cases of a layer.
TOGETHER = 12
_EDGES: tuple[Edge, ...] = ("start", "end", "end")
_MODES = ("zeros", "reflect", "replicate", "circular")
_FEW = (1, 1, 1, 2, 2, 3, 4, 5, 8)
_MANY = (12, 15, 16, 17, 21, 31, 32, 33, 47, 48, 63, 64, 65, 96, 130)
_GROUPS = (2, 3, 3, 4, 5, 7, 8, 8, 12, 16, 17, 32, 34)
#: Sizes at, below and beyond tiles of 8 to 64 lanes, and in between.
_WIDTHS = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 19, 20, 23, 24, 25, 28, 31, 32, 33, 40, 47, 48, 49, 55,
    56, 63, 64, 65, 72, 79, 80, 81, 95, 96, 97, 112, 127, 128, 129, 160, 200, 255, 333, 512, 1000, 2049,
)  # fmt: skip
_HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 21, 28, 31, 33, 56, 64)
_DEPTHS = (1, 2, 3, 4, 5, 6, 8, 9)
#: Multiply-adds of a case: most are small, one in thirty is not. The largest have so many elements that
#: results are stored by nontemporal stores.
_SMALL, _LARGE = 3e6, 1e8
_MOST_ELEMENTS, _MOST_WEIGHTS = 6e6, 1 << 18


def draw(
    seed: int, number: int, instruction_sets: Sequence[str] | None = None,
    algorithms: Sequence[str] | None = None,
) -> Drawn:  # fmt: skip
    """The case of a number; `instruction_sets` are those whose plans it may run under."""
    layer = Dice(np.random.default_rng([seed, number // TOGETHER]))
    case, dtype = _layer(layer), layer.one((*DTYPES, "float32", "float32"))
    sets = tuple(instruction_sets or runtime.available())
    own_set = layer.one(sets)
    case = replace(case, algorithm=layer.one(algorithms or ALGORITHMS))
    dice = Dice(np.random.default_rng([seed, number // TOGETHER, number]))
    values = dice.one(("reals", "reals", "reals", "integers", "integers", "special"))
    most = _LARGE if dice.chance(1 / 30) else _SMALL
    # To judge places takes some thirty contractions, and those in three dimensions are torch's slowest.
    most /= (30 if values == "special" else 1) * (10 if case.nd == 3 else 1)
    case = replace(_sized(case, dice, most), id=f"fuzz-{seed}-{number}")
    some = [name for name in ("input", "weight", "grad_output") if dice.chance(0.5)]
    here = _setting(dice, own_set, case, repeats=values != "special")
    there = _setting(dice, dice.one(runtime.available()), case, repeats=False)
    if dice.chance(0.02) and _is_torchs(case):
        case, values = _emptied(case, dice), "empty"
    special = tuple(some or ["input"]) if values == "special" else ()
    edge = dice.one(_EDGES) if dice.chance(0.2) else None
    return Drawn(case, dtype, values, int(dice.rng.integers(2**31)), here, there, special, edge)


def _layer(dice: Dice) -> Case:
    """A layer, its size still to come, that is not too much work on the smallest."""
    while True:
        layer = _any_layer(dice)
        smallest = _legal(layer, layer.input_size)
        if (
            _work(smallest) <= _SMALL / (10 if layer.nd == 3 else 1)
            and prod(layer.weight_shape) <= _MOST_WEIGHTS
        ):
            return layer


def _any_layer(dice: Dice) -> Case:
    nd = dice.one((1, 1, 2, 2, 2, 3))
    transposed = dice.chance(0.45)
    groups, inputs, outputs = _channels(dice, nd)
    axes = [_axis(dice, groups > 1 and inputs == 1) for _ in range(nd)]
    if dice.chance(0.5):  # the usual kind: all axes alike
        axes = [axes[0]] * nd
    kernel, stride, dilation = (tuple(column) for column in zip(*axes, strict=True))
    mode = "zeros" if dice.chance(0.85) else dice.one(_MODES[1:])
    padding, output_padding = _padding(dice, axes, transposed=transposed, mode=mode)
    return Case(
        "fuzz", "conv_transpose" if transposed else "conv", (1,) * nd, kernel, groups * inputs,
        groups * outputs, stride=stride, padding=padding, dilation=dilation, output_padding=output_padding,
        groups=groups, padding_mode=mode, bias=dice.chance(0.6),
    )  # fmt: skip


def _channels(dice: Dice, nd: int) -> tuple[int, int, int]:
    """Groups, and inputs and outputs of each."""
    many = (*_FEW, *_MANY) if nd < 3 else (*_FEW, 16, 17, 33)
    if dice.chance(0.5):
        return 1, dice.one(many), dice.one(many)
    groups, most = dice.one(_GROUPS), (1, 1, 2, 2, 3, 4, 5, 8, 15, 16, 17)
    kind = dice.one(("depthwise", "depthwise", "fan out", "fan in", "any"))
    inputs = 1 if kind in ("depthwise", "fan out") else dice.one(most)
    outputs = 1 if kind in ("depthwise", "fan in") else dice.one(most)
    return groups, inputs, outputs


def _axis(dice: Dice, own_channel: bool) -> tuple[int, int, int]:
    """Kernel size, stride and dilation; layers of one channel a group have kernels for each of their own."""
    if own_channel and dice.chance(0.8):
        return dice.one((1, 3, 3, 5, 7)), dice.one((1, 1, 2)), 1
    kernel = dice.one((1, 1, 2, 3, 3, 3, 4, 5, 7, 9))
    stride = dice.one((1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 8))
    dilation = dice.one((1, 1, 1, 1, 2, 3, 4)) if kernel > 1 else dice.one((1, 1, 1, 2))
    return kernel, stride, dilation


def _padding(
    dice: Dice, axes: Sequence[tuple[int, int, int]], *, transposed: bool, mode: str
) -> tuple[Any, tuple[int, ...]]:
    """Padding in every form, and the output padding of a transposed layer."""
    none = (0,) * len(axes)
    if dice.chance(0.1):
        return dice.one(("same", "same", "valid")), none
    usual, lopsided = dice.chance(0.6), dice.chance(0.3)
    pads = []
    for kernel, _, dilation in axes:
        extent = (kernel - 1) * dilation + 1
        low = extent // 2 if usual else dice.upto(0, min(extent + 1, 9))
        pads.append((low, dice.upto(0, min(extent, 9)) if lopsided else low))
    if not transposed or mode != "zeros" or dice.chance(0.5):
        return tuple(pads), none
    return tuple(pads), tuple(dice.upto(0, max(s, d) - 1) for _, s, d in axes)


def _sized(layer: Case, dice: Dice, most: float) -> Case:
    """The layer on a size that is legal and not too much work."""
    batched = dice.chance(0.9)
    batch = dice.one((1, 1, 1, 1, 2, 2, 3, 5)) if batched else 1
    if batched and dice.chance(0.03):
        batch = 0
    choices = (_DEPTHS, _HEIGHTS, _WIDTHS)[-layer.nd :]
    size = [dice.one(c) if dice.chance(0.8) else dice.upto(1, c[-4]) for c in choices]
    case = _legal(replace(layer, batch=batch, batched=batched), size)
    while _work(case) > most and (case.batch > 1 or max(size) > 1):
        if case.batch > 1:
            case = replace(case, batch=1)
            continue
        longest = size.index(max(size))
        size[longest] = max(1, size[longest] * 2 // 3)
        smaller = _legal(case, size)
        if smaller.input_size == case.input_size and all(n == 1 or n <= 3 for n in size):
            break
        case = smaller
    return case


def _is_torchs(case: Case) -> bool:
    """Whether torch's own function takes the layer."""
    same_sides = not isinstance(case.padding, str) and all(low == high for low, high in case.padding)
    return same_sides and case.padding_mode == "zeros"


def _emptied(case: Case, dice: Dice) -> Case:
    """The layer on an input that has no element along an axis, or so few that nothing may be left."""
    size = list(case.input_size)
    size[dice.upto(0, case.nd - 1)] = dice.one((0, 0, 1))
    return replace(case, input_size=tuple(size), batch=0 if case.batched and dice.chance(0.3) else case.batch)


def _work(case: Case) -> float:
    """Multiply-adds, or more where there are many elements."""
    sums = case.batch * prod(case.out_spatial) * case.out_channels * case.terms
    elements = prod(case.input_shape) + prod(case.output_shape)
    return max(sums, _LARGE * elements / _MOST_ELEMENTS)


def _legal(case: Case, size: Sequence[int]) -> Case:
    """The case on the smallest size that is not below the one wanted, has an output and takes its padding."""
    found = list(size)
    for axis in range(case.nd):
        while not _takes(case, found, axis):
            found[axis] += 1
    return replace(case, input_size=tuple(found))


def _takes(case: Case, size: Sequence[int], axis: int) -> bool:
    sized = replace(case, input_size=tuple(size))
    output, padded = sized.out_spatial[axis], max(sized.pads[axis])
    bordered = output if case.transposed else size[axis]  # what the border rule continues
    limit = {"zeros": padded, "replicate": padded, "reflect": bordered - 1, "circular": bordered}
    return output >= 1 and padded <= limit[case.padding_mode]


def _setting(dice: Dice, instruction_set: str, case: Case, *, repeats: bool) -> Setting:
    """An instruction set, threads and layouts; unbatched operands are views without their first axis."""

    def layout(plain: float) -> str:
        if dice.chance(plain):
            return dice.one(("contiguous", "contiguous", "channels_last"))
        return dice.one((*FAITHFUL, *REPEATING) if repeats else FAITHFUL)

    own = layout(0.6)
    back = own if dice.chance(0.4) and own in FAITHFUL else layout(0.7)
    bias = dice.one(("contiguous", "contiguous", "sliced", "offset"))
    return Setting(instruction_set, dice.one(THREADS), own, layout(0.8), back, bias)
