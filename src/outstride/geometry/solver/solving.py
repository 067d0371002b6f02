"""The way back: from sizes to every layer that gives them, the best first, each with its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from outstride.errors import ArgumentError
from outstride.geometry.solver.choices import Bounds, Choice, Question, choices
from outstride.geometry.solver.combining import Ordered, combined
from outstride.geometry.solver.notes import notes
from outstride.geometry.solver.questions import Limits, ScaleLike, Values, bounds_of, questions_of
from outstride.geometry.solver.solution import Solution, layer
from outstride.geometry.solver.tabulating import HEAD, cells
from outstride.layer.arguments import Sizes, optional_whole, whole
from outstride.layer.spec import Kind
from outstride.output.tables import html_table, html_text

_SHOWN = 8
_MOST_ANSWERS = 1_000_000


class Solutions(Ordered[Solution]):
    """The layers that answer a question, the best first, built one by one as they are looked at.

    A sequence: ``found[0]`` is the answer, ``len(found)`` how many there are, ``print(found)`` the best
    five and the proof of the first. ``notes`` say what holds for all of them, or why there are none.
    """

    def __init__(self, count: int, items: Iterator[Solution], notes: tuple[str, ...]) -> None:
        super().__init__(count, items)
        self.notes = notes

    def __str__(self) -> str:
        if not self:
            return "\n".join(("no layer within the bounds", *self.notes))
        lines = [f"{len(self)} answers, the best first", str(self[0])]
        lines += [repr(solution.spec) for solution in self[1:5]]
        return "\n".join([*lines, *["..."] * (len(self) > 5), *self.notes])

    def _repr_html_(self) -> str:
        if not self:
            return html_text(str(self))
        rows = [cells(number, found) for number, found in enumerate(self[:_SHOWN], 1)]
        below = "\n".join((str(self[0]), *self.notes))
        return html_table(f"{len(self)} layers, the best first", HEAD, rows, below)

    def __repr__(self) -> str:
        return f"<{len(self)} solutions{f', the first {self[0].spec!r}' if self else ''}>"


def solve(
    input_size: Sizes | None = None,
    output_size: Sizes | None = None,
    *,
    scale: ScaleLike | Sequence[ScaleLike] | None = None,
    kind: Kind | None = None,
    nd: int | None = None,
    kernel_size: Values | None = None,
    stride: Values | None = None,
    padding: Values | None = None,
    dilation: Values | None = None,
    output_padding: Values | None = None,
    ceil_mode: bool | None = None,
    asymmetric: bool = False,
    isotropic: bool | None = None,
    in_channels: int | None = None,
    out_channels: int | None = None,
    groups: int = 1,
) -> Solutions:
    """Find every layer that turns one size into another, or that scales every size, and rank them.

    Args:
        input_size, output_size: elements per axis, at least 1; one number stands for every axis.
        scale: instead of sizes: s for a transposed layer, "1/s" for others, for every size that s divides.
        kind: "conv_transpose" where the output is larger, else "conv"; or "max_pool" or "avg_pool".
        nd: number of axes where no tuple shows it; 2 if it is left out.
        kernel_size, stride, padding, dilation, output_padding: the values to try, one number or several. Left
            out, they grow with the ratio of the sizes: kernels to 3 strides and at least 7, strides to one
            more than the ratio, paddings below the largest kernel, dilations 1 and 2, every legal
            output_padding.
        ceil_mode: pooling only: None tries both.
        asymmetric: whether to try different paddings on the two sides.
        isotropic: whether all axes must have the same parameters; None shares them where it costs nothing.
        in_channels, out_channels, groups: go into the layer and its multiply-adds.

    Returns:
        The legal sets within bounds, all of them and each once, ranked by: closeness to a scale, 0 being
        exact for every size; borders without use; holes; distance from the centre; even overlap; for
        convolutions overlap at all, for pooling none; no dilation; rounding down; multiply-adds; the smaller
        numbers. Empty if there are none.

    Raises:
        ArgumentError: the question is no question, such as sizes below 1 or a scale of 3/2, or it has more
            than a million answers on an axis, as sizes that lie far apart have.

    Law: with w = dilation * (kernel_size - 1) + 1 and P the padding of both sides, a transposed layer is
        exact for every size if and only if w + output_padding - P = stride: its output (i - 1) * stride + w +
        output_padding - P is stride * i exactly then. A convolution is, for every size that the stride
        divides, if and only if w - stride <= P <= w - 1: its output for stride * m is m + 1 + floor((P - w) /
        stride), which is m exactly if the floor is -1. The picture's middle moves by -output_padding / 2, or
        by half the remainder of the division. The overlap is even if and only if the stride is 1, or prime to
        the dilation and a divisor of the kernel. ``geometry.merits`` has these proofs in full.

    Example:
        >>> solve(scale=2)[0].spec
        ConvTranspose2d(kernel_size=4, stride=2, padding=1)
        >>> solve(65, 256)[0].proof
        ('(65 - 1) * 4 - 4 - 4 + 1 * (8 - 1) + 0 + 1 = 256',)

    Source: the size formulas are those of Dumoulin and Visin, arXiv:1603.07285; that overlap is even where
        the stride divides the kernel is from Odena, Dumoulin and Olah, distill.pub/2016/deconv-checkerboard.
    """
    questions = questions_of(kind, input_size, output_size, scale, nd)
    limits = Limits(kernel_size, stride, padding, dilation, output_padding, ceil_mode, asymmetric)
    options: dict[str, Any] = {
        "in_channels": optional_whole("in_channels", in_channels, 1),
        "out_channels": optional_whole("out_channels", out_channels, 1),
        "groups": whole("groups", groups, 1),
    }
    asked = {q: _answers(q, bounds_of(limits, q)) for q in dict.fromkeys(questions)}
    rows = combined([(q,) for q in questions], {(q,): found for q, found in asked.items()}, isotropic)
    built = (Solution(layer(questions[0].kind, row, **options), questions) for row in rows)
    return Solutions(len(rows), built, notes(questions, limits, asked, rows))


def _answers(question: Question, bounds: Bounds) -> list[Choice]:
    """Every answer on an axis, where so many can be kept and put in order."""
    found = list(islice(choices(question, bounds), _MOST_ANSWERS + 1))
    if len(found) > _MOST_ANSWERS:
        raise ArgumentError(
            "'kernel_size', 'stride' or 'padding' must be given for sizes so far apart: got "
            f"{question.input_size} and {question.output_size}, with more than {_MOST_ANSWERS} answers; "
            f"legal: fewer values, such as stride={question.ratio} and padding=0"
        )
    return found
