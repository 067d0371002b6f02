"""One axis of a question for sizes, one set of parameters that answers it, and every set within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from outstride.layer.axis import Axis
from outstride.layer.spec import Kind

# The most elements of kernel that are tried without being asked for, in strides: 3 is what a centred, even
# and overlapping kernel takes where the stride is odd.
_KERNEL_IN_STRIDES = 3
_LEAST_KERNEL = 7
# Beyond this ratio a list of everything would be long and nobody's question: only the nearest strides are
# tried.
_LARGE_RATIO = 64
_LARGEST_KERNEL = 4096


class Question(NamedTuple):
    """One axis: which size shall become which, by which kind of layer.

    ``every`` asks for a scale, that is for every size at once. By the law of ``merits.misfit`` one multiple
    of the stride then stands for all, and the sizes are those of the smallest.
    """

    kind: Kind
    input_size: int
    output_size: int
    every: bool = False

    @property
    def fine(self) -> int:
        """The size on the side of the small pixels: a transposed layer's output, another's input."""
        return self.output_size if self.kind == "conv_transpose" else self.input_size

    @property
    def coarse(self) -> int:
        """The size on the other side."""
        return self.input_size if self.kind == "conv_transpose" else self.output_size

    @property
    def ratio(self) -> int:
        """The stride that comes nearest to what is asked, at least 1."""
        return max(1, (2 * self.fine + self.coarse) // (2 * self.coarse))


class Choice(NamedTuple):
    """The parameters of one axis."""

    kernel_size: int
    stride: int
    low: int
    high: int
    dilation: int
    output_padding: int
    ceil_mode: bool

    @property
    def window(self) -> int:
        """Elements from the first tap to the last, both counted."""
        return self.dilation * (self.kernel_size - 1) + 1


@dataclass(frozen=True)
class Bounds:
    """The values that are tried for each parameter of an axis; None for every one that is legal."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...] | None
    ceil_mode: tuple[bool, ...]
    asymmetric: bool

    def admits(self, choice: Choice) -> dict[str, tuple[object, Iterable[object]]]:
        """The parameters that lie outside, each with its value and what the bounds hold."""
        held: dict[str, tuple[object, Iterable[object] | None]] = {
            "kernel_size": (choice.kernel_size, self.kernel_size),
            "stride": (choice.stride, self.stride),
            "padding": (choice.low, self.padding),
            "high padding": (choice.high, self.padding if self.asymmetric else (choice.low,)),
            "dilation": (choice.dilation, self.dilation),
            "output_padding": (choice.output_padding, self.output_padding),
            "ceil_mode": (choice.ceil_mode, self.ceil_mode),
        }
        return {
            name: (value, legal)
            for name, (value, legal) in held.items()
            if legal is not None and value not in legal
        }


def usual_bounds(question: Question) -> dict[str, tuple[int, ...] | None]:
    """The bounds that are taken where none are given: they grow with the ratio of the two sizes."""
    ratio = max(1, ceil(question.fine / question.coarse))
    large = ratio > _LARGE_RATIO
    kernel = min(max(_LEAST_KERNEL, (_KERNEL_IN_STRIDES - large) * ratio), _LARGEST_KERNEL)
    return {
        "kernel_size": tuple(range(1, kernel + 1)),
        "stride": tuple(range(ratio - 1 if large else 1, ratio + 2)),
        "dilation": (1, 2),
        "output_padding": (0, 1) if large else None,
    }


def choices(question: Question, bounds: Bounds) -> Iterator[Choice]:
    """Every legal set of parameters within bounds that answers the question, once each.

    A kernel of one element has no dilation and is tried with 1 alone.

    What is solved for is the padding. With w = dilation * (kernel_size - 1) + 1 and P = low + high, a
    transposed layer gives o exactly when P = (i - 1) * stride + w + output_padding - o, and a convolution
    exactly when floor((i + P - w) / stride) = o - 1, that is when P lies in the ``stride`` integers from (o -
    1) * stride + w - i on. Pooling has few paddings, at most half the window, and each of them is tried.
    """
    totals = range(2 * max(bounds.padding, default=-1) + 1)
    for stride in bounds.stride:
        if question.every and stride != question.ratio:
            continue  # the size grows by the stride from each input to the next, so only this one can scale
        for dilation in bounds.dilation:
            for kernel_size in bounds.kernel_size:
                if kernel_size == 1 < dilation or (question.kind == "avg_pool" and dilation > 1):
                    continue
                plain = Choice(kernel_size, stride, 0, 0, dilation, 0, False)
                if question.kind == "conv_transpose":
                    yield from _transposed(question, plain, bounds, totals)
                elif question.kind == "conv":
                    yield from _convolution(question, plain, bounds, totals)
                else:
                    yield from _pooling(question, plain, bounds)


def _transposed(question: Question, plain: Choice, bounds: Bounds, totals: range) -> Iterator[Choice]:
    whole = (question.input_size - 1) * plain.stride + plain.window - question.output_size
    most = max(plain.stride, plain.dilation)
    # A stride may be as large as a size: only what leaves paddings within bounds is gone through.
    possible = range(max(0, totals.start - whole), min(most, totals.stop - whole))
    for extra in possible if bounds.output_padding is None else bounds.output_padding:
        if extra < most:
            for low, high in _pairs(whole + extra, bounds):
                yield plain._replace(low=low, high=high, output_padding=extra)


def _convolution(question: Question, plain: Choice, bounds: Bounds, totals: range) -> Iterator[Choice]:
    least = (question.output_size - 1) * plain.stride + plain.window - question.input_size
    for total in range(max(least, totals.start), min(least + plain.stride, totals.stop)):
        for low, high in _pairs(total, bounds):
            yield plain._replace(low=low, high=high)


def _pooling(question: Question, plain: Choice, bounds: Bounds) -> Iterator[Choice]:
    paddings = [padding for padding in bounds.padding if padding <= plain.window // 2]
    for low in paddings:
        for high in paddings if bounds.asymmetric else (low,):
            for rounding in bounds.ceil_mode:
                choice = plain._replace(low=low, high=high, ceil_mode=rounding)
                if made_size(question.kind, choice, question.input_size) == question.output_size:
                    yield choice


def _pairs(total: int, bounds: Bounds) -> Iterator[tuple[int, int]]:
    """The paddings (low, high) within bounds that add up to a total."""
    if bounds.asymmetric:
        yield from ((low, total - low) for low in bounds.padding if total - low in bounds.padding)
    elif total >= 0 and total % 2 == 0 and total // 2 in bounds.padding:
        yield total // 2, total // 2


def made_size(kind: Kind, choice: Choice, input_size: int) -> int:
    """The output size that a set of parameters gives, below 1 where the input is too small."""
    return Axis(
        number=0,
        transposed=kind == "conv_transpose",
        same=False,
        ceil=choice.ceil_mode,
        mode="zeros",
        kernel_size=choice.kernel_size,
        stride=choice.stride,
        dilation=choice.dilation,
        window=choice.window,
        low=choice.low,
        high=choice.high,
        output_padding=choice.output_padding,
    ).output(input_size)
