"""Which layers are computed by short algorithms: a rule of the layer alone, whatever its sizes.

A short axis makes its outputs in cells: those of a cell share products, and cells are counted from output 0.
So a part of a tensor is computed as the whole is where it begins with a cell (`period`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, lcm, prod
from typing import Literal

from outstride.layer.algorithms import Terms, shortened
from outstride.layer.axis import Phase

#: What a layer may be asked to be computed by: "direct" is one chain of multiply-adds for each output,
#: "auto" takes short algorithms where the rule says so.
ALGORITHMS = ("auto", "direct")
AlgorithmName = Literal["auto", "direct"]

#: The fewest channels, and outputs, of a group for which sums of inputs and products cost less than they
#: save: where products are so many times fewer than multiply-adds, and else.
FEWEST_OF_MUCH, FEWEST = 16, 64
MUCH_SAVING = 2.2
#: The same of dilated layers, which sum in vectors that are not full.
FEWEST_DILATED_OF_MUCH, FEWEST_DILATED = 64, 96
#: The fewest pairs of a channel and an output, which are what products are summed for.
LEAST_PAIRS = 512
#: Multiply-adds of the direct chain for each product, from which a short algorithm pays; of layers of one
#: axis, whose rows are long and fill vectors; of a convolution that takes steps, whose sums of inputs serve
#: fewer outputs.
LEAST_SAVING = 1.42
LEAST_SAVING_OF_ONE_AXIS = 1.4
LEAST_SAVING_OF_STEPS = 2.2
#: The most rounding error, as a share of the direct chain's.
MOST_ERROR = 0.9
#: How far the taps of a dilated axis may reach where one, two and three axes have several: outputs that share
#: products lie as far apart as taps, and the fewer of them a map has the more are computed in vain.
MOST_REACH = (64, 4, 0)
#: How far apart taps of a layer that takes steps may be: its cells grow with it.
MOST_DILATION_OF_STEPS = 1
#: The most products of a cell, and the most inputs or outputs of one along an axis.
MOST_PRODUCTS = 64
MOST_STEP = 16


@dataclass(frozen=True)
class CellProduct:
    """A product of a cell: a sum of inputs times a sum of kernel elements, which goes to some outputs."""

    inputs: Terms
    weights: Terms
    outputs: Terms


@dataclass(frozen=True)
class ShortAxis:
    """An axis in cells: `out_step` outputs from the inputs counted from `in_step` times the cell's number.

    Of a dilated axis neighbours share nothing, but outputs that lie as far apart as taps do. So many cells
    are a `run`: their first outputs, and first inputs, are neighbours; behind those lie the second of all.
    """

    out_step: int
    in_step: int
    products: tuple[CellProduct, ...]
    #: What tells it from others of other matrices: neither sizes nor whole steps of padding do.
    name: str
    #: The algorithms of each phase in words; none where each product is a tap of its own.
    algorithms: tuple[str, ...] = ()
    #: Neighbouring cells that lie in each other; the outputs of each are so far apart.
    run: int = 1

    def cells(self, outputs: int) -> int:
        """How many cells make so many outputs: whole runs."""
        return ceil(outputs / (self.out_step * self.run)) * self.run

    def first_input(self, cell: int) -> int:
        """Where the inputs of a cell are counted from."""
        return cell + (self.in_step - 1) * self.run * (cell // self.run)

    def output(self, cell: int, member: int) -> int:
        """Where an output of a cell lies."""
        return cell + (self.out_step - 1) * self.run * (cell // self.run) + member * self.run

    @property
    def offsets(self) -> tuple[int, ...]:
        """The inputs that a cell reads, ascending."""
        return tuple(sorted({offset for p in self.products for offset, _ in p.inputs}))

    @property
    def data(self) -> tuple[Terms, ...]:
        """The inputs of each product, by their numbers in `offsets`."""
        number = {offset: i for i, offset in enumerate(self.offsets)}
        return tuple(tuple((number[o], c) for o, c in p.inputs) for p in self.products)

    @property
    def weights(self) -> tuple[Terms, ...]:
        """The kernel elements of each product."""
        return tuple(p.weights for p in self.products)

    @property
    def additions(self) -> int:
        """The most additions that an output has gone through beside those of its products' chains."""
        return sum(max(map(len, rows)) - 1 for rows in (self.data, self.results))

    @property
    def results(self) -> tuple[Terms, ...]:
        """The products of each output of a cell."""
        return tuple(
            tuple((i, c) for i, p in enumerate(self.products) for place, c in p.outputs if place == j)
            for j in range(self.out_step)
        )


@lru_cache(maxsize=1024)
def short_axis(transposed: bool, kernel: int, stride: int, padding: int, dilation: int) -> ShortAxis:
    """The cells of an axis; with one tap a phase they save nothing and are as small as they can be.

    `padding` is that of the convolution whose adjoint a transposed one is.

    Example:
        >>> axis = short_axis(False, 3, 1, 1, 1)
        >>> len(axis.products), axis.out_step
        (4, 2)
    """
    phases = _phases(transposed, kernel, stride, padding, dilation)
    short = [each for phase in phases for each in shortened(phase)]
    name = f"{'t' if transposed else 'c'}{kernel}s{stride}d{dilation}"
    if transposed:
        name += f"p{padding % stride}"
    pieces = tuple(dict.fromkeys("+".join(map(str, s.algorithms)) for s in short if s.algorithms))
    if stride == 1 and len(short) > 1:  # one phase dealt out by the dilation: all parts are alike
        products = [CellProduct(*p) for p in short[0].products]
        return ShortAxis(short[0].outputs, short[0].outputs, tuple(products), name, pieces, len(short))
    out_step = lcm(*(s.out_step * s.outputs for s in short))
    products = []
    in_step = 1
    for s in short:
        groups = out_step // (s.out_step * s.outputs)
        in_step = s.first_input(groups)
        products += [
            CellProduct(
                tuple((s.first_input(q) + offset, c) for offset, c in p.inputs), p.weights,
                tuple((s.output(q, member), c) for member, c in p.outputs),
            )
            for q in range(groups)
            for p in s.products
        ]  # fmt: skip
    return ShortAxis(out_step, in_step, tuple(products), name, pieces)


def _phases(transposed: bool, kernel: int, stride: int, padding: int, dilation: int) -> list[Phase]:
    """The phases of an axis, counted from output 0."""
    if not transposed:
        return [Phase(0, 1, stride, tuple((k, k * dilation - padding) for k in range(kernel)))]
    taps: list[list[tuple[int, int]]] = [[] for _ in range(stride)]
    for k in range(kernel):
        # Output u takes input i through k where u = i * stride + k * dilation - padding.
        before, phase = divmod(k * dilation - padding, stride)
        taps[phase].append((k, -before))
    return [Phase(start, stride, 1, tuple(of_phase)) for start, of_phase in enumerate(taps)]


def period(transposed: bool, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Outputs after which the cells of an axis repeat: a part that begins at a multiple is as the whole."""
    axis = short_axis(transposed, kernel, stride, padding, dilation)
    return axis.out_step * axis.run


@lru_cache(maxsize=1024)
def squared_error(transposed: bool, kernel: int, stride: int, padding: int, dilation: int) -> float:
    """Rounding errors of an axis' outputs, squared, as a share of those of the direct chain.

    A chain of n terms of variance v is off by about n * sqrt(v / 2) roundings: each addition rounds a sum
    whose variance has grown to that of the terms before it. A product's chain has a term for each channel, of
    the variance of its sums; the direct chain one for each channel and tap. Outputs have the mean.

    Example:
        >>> squared_error(False, 3, 1, 1, 1)  # (2 + 3/2 + 3/2) / 3**2
        0.5555555555555556
    """
    axis = short_axis(transposed, kernel, stride, padding, dilation)
    shares = []
    for place in range(axis.out_step):
        taps = [k for k in range(kernel) if not transposed or (place + padding - k * dilation) % stride == 0]
        products = [p for p in axis.products if any(at == place for at, _ in p.outputs)]
        if taps:
            variance = sum(_norm(p.inputs) * _norm(p.weights) for p in products)
            shares.append(variance / len(taps) ** 2)
    return sum(shares) / max(1, len(shares))


def _norm(terms: Terms) -> float:
    """The variance of a sum of terms of variance 1."""
    return sum(float(c) ** 2 for _, c in terms)


def _least_saving(transposed: bool, stride: Sequence[int]) -> float:
    """The saving from which a layer with these strides pays."""
    if not transposed and any(s > 1 for s in stride):
        return LEAST_SAVING_OF_STEPS
    return LEAST_SAVING_OF_ONE_AXIS if len(stride) == 1 else LEAST_SAVING


@dataclass(frozen=True)
class Choice:
    """Whether a layer is computed by short algorithms, and why."""

    short: bool
    reason: str


@lru_cache(maxsize=1024)
def choose(
    transposed: bool,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    channels: int,
    outputs: int,
    dtype: str,
    algorithm: AlgorithmName = "auto",
) -> Choice:
    """Whether a contraction takes short algorithms.

    Args:
        transposed: whether it is a transposed convolution, or the adjoint of a convolution.
        kernel_size, stride, dilation: per axis.
        channels, outputs: those that are summed over and those that are made, of a group.
        dtype: the name of the type of its tensors.
        algorithm: what its user asked for.

    Returns:
        The choice, with one clause that says why.

    Example:
        >>> choose(False, (3, 3), (1, 1), (1, 1), 64, 64, "float32").reason
        '16 products for the 36 of 4 outputs, 0.56 of their rounding error'
        >>> choose(False, (3, 3), (1, 1), (1, 1), 3, 64, "float32").reason
        'its sums cost more than they save below 16 channels: it has 3'
    """
    if algorithm == "direct":
        return Choice(False, "algorithm='direct' was asked for")
    if dtype == "float64":
        return Choice(False, "float64 stays direct")
    if transposed and any(k < s for k, s in zip(kernel_size, stride, strict=True)):
        return Choice(False, "some outputs have no tap")
    if transposed and any(s == 1 and k % 2 == 0 for k, s in zip(kernel_size, stride, strict=True)):
        return Choice(False, "an even kernel of stride 1 unfolds maps of one position")
    dilated = [(k, s, d) for k, s, d in zip(kernel_size, stride, dilation, strict=True) if k > 1 and d > 1]
    most_reach = MOST_REACH[max(0, sum(k > 1 for k in kernel_size) - 1)]
    for k, s, d in dilated:
        if s > 1 and d > MOST_DILATION_OF_STEPS:
            return Choice(False, "outputs that share products lie as far apart as its taps")
        if (k - 1) * d > most_reach:
            return Choice(False, f"its taps reach {(k - 1) * d} inputs far, more than {most_reach}")
    axes = [short_axis(transposed, k, s, 0, d) for k, s, d in zip(kernel_size, stride, dilation, strict=True)]
    for number, (axis, k, s) in enumerate(zip(axes, kernel_size, stride, strict=True)):
        taps = k * axis.out_step // (s if transposed else 1)
        if len(axis.products) >= taps and taps > axis.out_step:
            return Choice(False, f"the taps of axis {number} share no inputs: its stride is {s}")
        if max(axis.in_step, axis.out_step) > MOST_STEP:
            return Choice(False, f"a cell of axis {number} takes more than {MOST_STEP} steps")
    products, cell = prod(len(a.products) for a in axes), prod(a.out_step for a in axes)
    direct = prod(
        k * a.out_step // (s if transposed else 1)
        for a, k, s in zip(axes, kernel_size, stride, strict=True)
    )  # fmt: skip
    counted = f"{products} products for the {direct} of {cell} outputs"
    saving = direct / products
    if products > MOST_PRODUCTS:
        return Choice(False, f"{counted} are too many")
    if saving < _least_saving(transposed, stride):
        return Choice(False, f"{counted} save too little")
    of_much, of_less = (FEWEST_DILATED_OF_MUCH, FEWEST_DILATED) if dilated else (FEWEST_OF_MUCH, FEWEST)
    fewest = of_much if saving >= MUCH_SAVING else of_less
    for name, number in (("channels", channels), ("outputs", outputs)):
        if number < fewest:
            return Choice(False, f"its sums cost more than they save below {fewest} {name}: it has {number}")
    if channels * outputs < LEAST_PAIRS:
        return Choice(
            False, f"its sums cost more than they save for {channels} channels of {outputs} outputs"
        )
    share = prod(
        squared_error(transposed, k, s, 0, d)
        for k, s, d in zip(kernel_size, stride, dilation, strict=True)
    ) ** 0.5  # fmt: skip
    if share > MOST_ERROR:
        return Choice(False, f"{counted} round off {share:.2f} times as much as direct ones")
    return Choice(True, f"{counted}, {share:.2f} of their rounding error")
