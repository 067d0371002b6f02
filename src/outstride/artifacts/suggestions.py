"""What to do about a layer that leaves a pattern: found by the solver, verified by the maps and the gains."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from torch import Tensor, nn

from outstride import geometry
from outstride.artifacts.coverage import overlap
from outstride.artifacts.cures import equalize_
from outstride.artifacts.gain import ripple
from outstride.artifacts.phases import phased, sub_pixel
from outstride.artifacts.rewrites import extend, smooth
from outstride.errors import OutstrideError
from outstride.layer.spec import ConvSpec
from outstride.output.tables import html_text

EVEN_GAIN = 1e-3
"""A ripple below this share is lost in an 8-bit picture: 1/256 of the range is 4e-3."""
COMPARED_SIZES = 3
"""With one stride, two layers' sizes differ by a fixed amount: a few sizes in each residue settle it."""


@dataclass(frozen=True)
class Suggestion:
    """One way out.

    ``kind`` is "weights" (changed in place), "same function" (an exact rewrite), "same sizes" (another layer,
    to be trained again) or "filter". ``ripple`` is what is left of the ripple, None where new weights decide
    it; ``change`` is the distance of the weights from the old ones over their norm, None where there is none
    to compare.
    """

    kind: str
    text: str
    ripple: float | None = None
    change: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        notes = []
        if self.change is not None:
            notes.append(f"weights change by {self.change:.1%}")
        if self.ripple is not None:
            notes.append(f"ripple then {self.ripple:.2g}")
        return f"{self.text} ({self.kind}{'; ' if notes else ''}{', '.join(notes)})"


def suggestions(layer: nn.Module) -> tuple[Suggestion, ...]:
    """What helps this layer with these weights; nothing where there is nothing to cure."""
    alone, factor = sub_pixel(layer)
    spec = ConvSpec.of(alone)
    weighted = isinstance(getattr(alone, "weight", None), Tensor)
    before = ripple(layer).value if weighted else None
    even = factor is not None or overlap(spec).even
    # A gradient that differs from phase to phase is how a strided layer tells its inputs apart: only an
    # uneven overlap is more than that. A kernel as large as its stride would have to become an average.
    reduces = factor is None and spec.kind != "conv_transpose"
    if even if reduces or before is None else before < EVEN_GAIN:
        return ()
    found: list[Suggestion] = []
    if weighted:
        found += _of_weights(layer)
    if spec.kind == "conv_transpose" and weighted:
        found += _rewrites(layer)
    if not even:
        found += same_sizes(spec)
    return tuple(found)


def _of_weights(layer: nn.Module) -> Iterator[Suggestion]:
    twin = copy.deepcopy(layer)
    try:
        equalize_(twin)
    except OutstrideError:
        return  # holes, or weights that belong to others: the other ways remain
    old, new = phased(layer).rows, phased(twin).rows
    change = float((new - old).norm() / old.norm()) if bool(old.any()) else 0.0
    yield Suggestion("weights", "artifacts.equalize_(layer)", ripple(twin).value, change)


def _rewrites(layer: nn.Module) -> Iterator[Suggestion]:
    try:
        longer = extend(layer)
    except OutstrideError:
        longer = layer
    if longer is not layer and overlap(longer).even:
        change = next((found.change for found in _of_weights(longer)), None)
        yield Suggestion(
            "same function",
            f"artifacts.extend(layer) is {ConvSpec.of(longer)!r}, then equalize_",
            0.0,
            change,
        )
    try:
        filtered = smooth(layer)
    except OutstrideError:
        return
    yield Suggestion(
        "filter", f"artifacts.smooth(layer) is {ConvSpec.of(filtered)!r}", ripple(filtered).value
    )


def same_sizes(spec: ConvSpec, most: int = 2) -> tuple[Suggestion, ...]:
    """Layers with an even overlap and the same output size for every input, by the solver's ranking."""
    if spec.padding == "same":
        return ()
    sizes = tuple(w + 4 * s for w, s in zip(spec.window, spec.stride, strict=True))
    try:
        outs = geometry.output_size(spec, sizes)
    except OutstrideError:
        return ()
    # Multiples of every axis's stride, up to the first that is at least as long as the kernel and one more.
    stride = max(spec.stride)
    if any(s not in (1, stride) for s in spec.stride):
        return ()
    longest = -(-max(spec.kernel_size) // stride) + 1
    options: dict[str, Any] = {} if spec.is_pool else {"groups": spec.groups}
    if not spec.is_pool:
        options |= {"in_channels": spec.in_channels, "out_channels": spec.out_channels}
    found: list[Suggestion] = []
    # Two sides of different padding only where no torch layer does it: then a layer of this package.
    for asymmetric in (False,) if spec.is_pool else (False, True):
        answers = geometry.solve(
            sizes,
            outs,
            kind=spec.kind,
            stride=stride if len(set(spec.stride)) == 1 else sorted({1, stride}),
            kernel_size=[stride * m for m in range(1, longest + 1)],
            dilation=1,
            asymmetric=asymmetric,
            **options,
        )
        fits = (
            answer.spec
            for answer in answers
            if answer.spec.stride == spec.stride
            and overlap(answer.spec).even
            and _same_sizes(spec, answer.spec)
        )
        room = "outstride.nn." if asymmetric else ""
        for answer in islice(fits, most - len(found)):
            made = answer if answer.bias == spec.bias else replace(answer, bias=spec.bias)
            found.append(Suggestion("same sizes", f"{room}{made!r}"))
        if found:
            break
    return tuple(found)


def _same_sizes(one: ConvSpec, other: ConvSpec) -> bool:
    """Whether both give the same output size for every input that both take."""
    first = max(*one.window, *other.window, 1)
    stride = max(one.stride)
    return all(
        geometry.output_size(one, size) == geometry.output_size(other, size)
        for size in range(first, first + COMPARED_SIZES * stride)
    )
