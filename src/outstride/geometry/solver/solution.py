"""One answer: a layer, what it is good for, the proof of its sizes, and where it can be written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, cast

from outstride.geometry.solver import merits, wording
from outstride.geometry.solver.choices import Choice, Question
from outstride.geometry.solver.frameworks import Asked, Verdict, verdicts
from outstride.geometry.solver.ranking import Key, rank_key
from outstride.layer.spec import ConvSpec
from outstride.output.tables import html_text


@dataclass(frozen=True)
class Reason:
    """One property of an answer: whether it is good, bad, or a figure to weigh (None), in a sentence."""

    topic: str
    good: bool | None
    text: str


@dataclass(frozen=True)
class Solution:
    """A layer that answers a question for sizes, with its reasons.

    ``spec`` is the layer. ``input_size`` and ``output_size`` are those of the question, None where a scale
    was asked for. Figures per axis are tuples. A "fine pixel" is one of the larger of the two pictures: the
    output of a transposed layer, the input of another.
    """

    spec: ConvSpec
    questions: tuple[Question, ...]

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The parameters of each axis."""
        spec = self.spec
        assert spec.padding != "same"
        rows = zip(
            *(spec.kernel_size, spec.stride, spec.padding, spec.dilation, spec.output_padding), strict=True
        )
        return tuple(Choice(k, s, low, high, d, e, spec.ceil_mode) for k, s, (low, high), d, e in rows)

    @property
    def _axes(self) -> list[tuple[Question, Choice]]:
        return list(zip(self.questions, self.choices, strict=True))

    @property
    def input_size(self) -> tuple[int, ...] | None:
        """Elements per axis that come in; None where every size does."""
        return None if self.questions[0].every else tuple(q.input_size for q in self.questions)

    @property
    def output_size(self) -> tuple[int, ...] | None:
        """Elements per axis that go out; None where a scale was asked for."""
        return None if self.questions[0].every else tuple(q.output_size for q in self.questions)

    @property
    def exact(self) -> bool:
        """Whether the layer scales by its stride for every size (that the stride divides)."""
        return all(merits.misfit(q, c) == 0 for q, c in self._axes)

    @property
    def law(self) -> str:
        """The size of the output for every size n of the input."""
        return wording.merged([wording.law(q, c) for q, c in self._axes])

    @property
    def shift(self) -> tuple[Fraction, ...]:
        """How far the picture's middle is moved, in fine pixels (``merits.shift``)."""
        return tuple(merits.shift(q, c) for q, c in self._axes)

    @property
    def shares(self) -> tuple[tuple[int, ...], ...]:
        """Per axis, the taps on each phase of the fine side."""
        return tuple(merits.shares(c) for c in self.choices)

    @property
    def even(self) -> bool:
        """Whether every phase has as many taps as the others."""
        return all(merits.is_even(c) for c in self.choices)

    @property
    def holes(self) -> bool:
        """Whether some phase has no tap at all."""
        return any(merits.has_holes(c) for c in self.choices)

    @property
    def overlaps(self) -> bool:
        """Whether neighbouring stamps or windows overlap on every axis that has a stride."""
        return all(merits.overlaps(c) for c in self.choices)

    @property
    def idle(self) -> tuple[tuple[int, int], ...]:
        """Per axis, the inputs that nothing reads and the border outputs that read nothing."""
        return tuple(merits.idle(q, c) for q, c in self._axes)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image, padding included; for one channel where none are given.

        For a scale they are those of one coarse pixel: an input of a transposed layer, an output of another.
        Pooling compares or adds instead, as often, in each channel.
        """
        spec = self.spec
        channels = 1 if spec.is_pool else (spec.in_channels or 1) * (spec.out_channels or 1) // spec.groups
        return max(1, channels) * prod(merits.multiply_adds(q, c) for q, c in self._axes)

    @cached_property
    def frameworks(self) -> dict[str, Verdict]:
        """The verdicts of torch, TensorFlow/Keras and ONNX, by name."""
        return verdicts(Asked(self.spec, self.questions, self.choices))

    @property
    def proof(self) -> tuple[str, ...]:
        """The size formula of each axis with the numbers put in; once, where all axes have the same."""
        return tuple(dict.fromkeys(wording.proof(q, c) for q, c in self._axes))

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What speaks for and against the layer, in the order in which answers are ranked."""
        return tuple(
            Reason(topic, good, text) for topic, good, text in wording.reasons(self._axes, self.spec.is_pool)
        ) + tuple(
            Reason(name, {"yes": True, "no": False}.get(v.mark), wording.verdict(v))
            for name, v in self.frameworks.items()
        )

    @property
    def key(self) -> Key:
        """What answers are ranked by: the smaller the better, entry by entry."""
        return rank_key(self._axes)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts and lists; fractions as texts such as "-1/2"."""
        return {
            "layer": repr(self.spec),
            "kind": self.spec.kind,
            "kernel_size": self.spec.kernel_size,
            "stride": self.spec.stride,
            "padding": self.spec.padding,
            "dilation": self.spec.dilation,
            "output_padding": self.spec.output_padding,
            "ceil_mode": self.spec.ceil_mode,
            "input_size": self.input_size,
            "output_size": self.output_size,
            "law": self.law,
            "exact_for_every_size": self.exact,
            "shift": [str(value) for value in self.shift],
            "even": self.even,
            "holes": self.holes,
            "overlaps": self.overlaps,
            "taps_per_phase": self.shares,
            "idle": self.idle,
            "multiply_adds": self.multiply_adds,
            "frameworks": {
                name: {"mark": v.mark, "layers": v.layers, "reason": v.reason}
                for name, v in self.frameworks.items()
            },
            "proof": self.proof,
            "reasons": [{"topic": r.topic, "good": r.good, "text": r.text} for r in self.reasons],
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        marks = {True: "+", False: "-", None: " "}
        lines = [repr(self.spec), *(f"  = {line}" for line in self.proof)]
        lines += [f"  {marks[r.good]} {r.topic:<9} {r.text}" for r in self.reasons]
        return "\n".join(lines)


def layer(
    kind: str,
    row: tuple[Choice, ...],
    in_channels: int | None = None,
    out_channels: int | None = None,
    groups: int = 1,
) -> ConvSpec:
    """The layer that has these parameters."""
    options: dict[str, Any] = {}
    if kind.startswith("conv"):
        options = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
    else:
        options = {"ceil_mode": row[0].ceil_mode}
    return ConvSpec(
        cast(Any, kind),
        tuple(c.kernel_size for c in row),
        tuple(c.stride for c in row),
        tuple((c.low, c.high) for c in row),
        tuple(c.dilation for c in row),
        tuple(c.output_padding for c in row),
        **options,
    )
