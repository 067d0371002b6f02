"""What each output reads: its phase, its taps with the inputs they meet, and the sum in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from outstride.explanation.scene import number
from outstride.geometry import axis_phases, output_size, source_index
from outstride.layer.spec import ConvSpec

#: Products that a formula writes out.
_MOST_TERMS = 12

Term = tuple[int, int]
"""A kernel element and the input that it meets, both counted row by row; -1 is padding."""


@dataclass(frozen=True)
class Reading:
    """One output: the number of its phase, its terms, and its formula in numbers."""

    phase: int
    terms: tuple[Term, ...]
    formula: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"phase": self.phase, "terms": [list(term) for term in self.terms], "formula": self.formula}


@dataclass(frozen=True)
class Numbers:
    """What is summed: input, kernel and output, each row by row, the bias, and what averages divide by."""

    input: Sequence[float]
    kernel: Sequence[float]
    output: Sequence[float]
    bias: float
    divisors: Sequence[int]


def readings(spec: ConvSpec, size: tuple[int, ...], numbers: Numbers) -> list[Reading]:
    """Every output, row by row."""
    out = output_size(spec, size)
    axes = [list(_axis(spec, axis, size, range(out[axis]))) for axis in range(spec.nd)]
    counts = [len(phases) for phases in axis_phases(spec, size)]
    found = []
    for place, along in zip(product(*map(range, out)), product(*axes), strict=True):
        terms = tuple(
            (_flat([k for k, _ in pair], spec.kernel_size), _flat([i for _, i in pair], size))
            for pair in product(*(taps for _, taps in along))
        )
        phase = _flat([number for number, _ in along], counts)
        flat = _flat(place, out)
        divisor = numbers.divisors[flat] if numbers.divisors else 1
        said = f"{_sum(spec, terms, numbers, divisor)} = {number(numbers.output[flat])}"
        found.append(Reading(phase, terms, f"{_name(place)} = {said}"))
    return found


def reading_at(spec: ConvSpec, size: tuple[int, ...], at: tuple[int, ...]) -> list[Term]:
    """The terms of one output of a layer of any size."""
    along = [next(_axis(spec, axis, size, range(place, place + 1)))[1] for axis, place in enumerate(at)]
    return [
        (_flat([k for k, _ in pair], spec.kernel_size), _flat([i for _, i in pair], size))
        for pair in product(*along)
    ]


def _axis(
    spec: ConvSpec, axis: int, size: tuple[int, ...], places: range
) -> Iterator[tuple[int, list[Term]]]:
    """For some outputs of an axis the number of their phase and their taps."""
    phases = axis_phases(spec, size)[axis]
    for at in places:
        number = at % phases[0].out_step
        phase = phases[number]
        step = at // phase.out_step
        taps = ((k, phase.in_step * step + offset) for k, offset in phase.taps)
        yield number, [(k, _source(spec, i, size[axis])) for k, i in taps]


def _source(spec: ConvSpec, position: int, size: int) -> int:
    mode = "zeros" if spec.kind == "conv_transpose" else spec.padding_mode
    found = source_index(position, size, mode)
    return -1 if found is None else found


def _flat(place: Sequence[int], shape: Sequence[int]) -> int:
    """The place counted row by row; -1 where some axis has none."""
    if min(place) < 0:
        return -1
    flat = 0
    for at, size in zip(place, shape, strict=True):
        flat = flat * size + at
    return flat


def _name(place: tuple[int, ...]) -> str:
    return f"y[{', '.join(map(str, place))}]"


def _sum(spec: ConvSpec, terms: tuple[Term, ...], numbers: Numbers, divisor: int) -> str:
    if spec.is_pool:
        inside = [number(numbers.input[i]) for _, i in terms if i >= 0]
        if spec.kind == "max_pool":
            return f"max({', '.join(_shortened(inside))})"
        return f"({' + '.join(_shortened(inside))}) / {divisor}"
    # What meets padding adds nothing; a transposed layer has no such terms to show at all.
    products = [f"{_factor(numbers.kernel[k])}·{_factor(numbers.input[i])}" for k, i in terms if i >= 0]
    parts = _shortened(products) + ([_factor(numbers.bias)] if numbers.bias else [])
    return " + ".join(parts) or "0"


def _shortened(parts: list[str]) -> list[str]:
    return parts if len(parts) <= _MOST_TERMS else [*parts[: _MOST_TERMS - 2], "…", parts[-1]]


def _factor(value: float) -> str:
    text = number(value)
    return f"({text})" if text.startswith("-") else text
