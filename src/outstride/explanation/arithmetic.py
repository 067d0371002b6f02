"""What a layer computes of an example, and as which products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from outstride.explanation.example import Array, Example, Place
from outstride.explanation.scene import number

#: Products that a caption writes out.
_MOST_TERMS = 9


class Term(NamedTuple):
    """A product: a weight and a number, with where they stand."""

    weight: float
    value: float
    tap: Place
    at: Place


def result(example: Example) -> Array:
    """What the layer gives."""
    if example.transposed:
        inner = tuple(slice(low, low + n) for low, n in zip(example.low, example.output, strict=True))
        cropped: Array = stamped(example)[inner] + example.bias
        return cropped
    made = np.zeros(example.output)
    if example.spec.is_pool:
        for place in np.ndindex(*example.output):
            made[place] = pooled(example, place).value
        return made
    padded = example.padded
    for place in np.ndindex(*example.output):
        made[place] = sum(t.weight * t.value for t in terms(example, padded, example.weight, place))
    return made + example.bias


def canvas(example: Example) -> Place:
    """The size of all that is stamped, and of what output_padding uncovers behind it."""
    spec = example.spec
    sizes = zip(example.x.shape, spec.stride, spec.window, example.low, example.output, strict=True)
    return tuple(max((n - 1) * s + k, low + o) for n, s, k, low, o in sizes)


def stamped(example: Example) -> Array:
    """All stamps, added up, before anything is cropped."""
    full = np.zeros(canvas(example))
    for place in np.ndindex(*example.x.shape):
        stamp(example, full, place, example.x[place] * example.weight)
    return full


def stamp(example: Example, full: Array, place: Place, numbers: Array) -> list[Place]:
    """Add numbers of the kernel's size where that place reads or stamps, and say where they lie."""
    where = window_at(example, place)
    for tap, at in where:
        full[at] += numbers[tap]
    return [at for _, at in where]


def window_at(example: Example, place: Place) -> list[tuple[Place, Place]]:
    """Every tap of an output of a convolution, or of an input of a transposed one, with where it lies."""
    corner = [p * s for p, s in zip(place, example.spec.stride, strict=True)]
    return [
        (tap, tuple(c + o for c, o in zip(corner, offset, strict=True))) for tap, offset in example.taps()
    ]


def terms(
    example: Example, source: Array, weight: Array, place: Place, stride: Place | None = None
) -> list[Term]:
    """The products of an output over a source that has its padding."""
    steps = example.spec.stride if stride is None else stride
    found = []
    for tap, offset in example.taps():
        at = tuple(p * s + o for p, s, o in zip(place, steps, offset, strict=True))
        found.append(Term(float(weight[tap]), float(source[at]), tap, at))
    return found


class Pooled(NamedTuple):
    """What a pooled output is made of: inputs that count, by what their sum is divided, the one that won."""

    value: float
    reads: tuple[Place, ...]
    divisor: int
    winner: Place | None


def pooled(example: Example, place: Place) -> Pooled:
    """One output of a layer that pools; of equal numbers the first wins, as in torch."""
    spec, size = example.spec, example.x.shape
    seen = (
        tuple(a - low for a, low in zip(at, example.low, strict=True)) for _, at in window_at(example, place)
    )
    reads = tuple(at for at in seen if all(0 <= a < n for a, n in zip(at, size, strict=True)))
    values = [float(example.x[at]) for at in reads]
    if spec.kind == "max_pool":
        winner = reads[int(np.argmax(values))] if reads else None
        return Pooled(max(values, default=-np.inf), reads, 1, winner)
    count = spec.divisor_override or len(reads)
    if spec.count_include_pad and not spec.divisor_override:
        ends = [n + low + high for n, (low, high) in zip(size, example.pads, strict=True)]
        axes = zip(spec.kernel_size, ends, place, spec.stride, strict=True)
        count = int(np.prod([min(k, end - p * s) for k, end, p, s in axes]))
    return Pooled(sum(values) / count if count else np.nan, reads, count, None)


def written(products: list[Term], bias: float = 0.0) -> str:
    """A sum of products as one writes it; of many the middle is left out."""
    texts = [f"{factor(t.weight)}·{factor(t.value)}" for t in products]
    texts = shortened(texts)
    return " + ".join([*texts, factor(bias)] if bias else texts)


def shortened(texts: list[str]) -> list[str]:
    """The first and the last of many."""
    return texts if len(texts) <= _MOST_TERMS else [*texts[: _MOST_TERMS - 2], "…", texts[-1]]


def factor(value: float) -> str:
    """A number as it stands in a sum or product."""
    text = number(value)
    return f"({text})" if text.startswith("-") else text
