"""Where a checkerboard would come from: overlap, holes, ripple, what each phase reads, and ways out."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from outstride.artifacts.coverage import overlap
from outstride.errors import OutstrideError
from outstride.explanation.scene import number
from outstride.geometry import Phase, axis_phases
from outstride.layer.spec import ConvSpec

#: Periods that a map shows along an axis, so that it is seen as a pattern; and its cells at most.
_PERIODS, _MOST_CELLS = 3, 24
_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def pattern_of(spec: ConvSpec, size: tuple[int, ...], weight: Sequence[float] | None) -> dict[str, Any]:
    """Everything that is known of a layer's pattern, with a kernel of its own or one that counts from 1."""
    found = overlap(spec)
    return {
        "of": found.of,
        "even": found.even,
        "holes": found.holes > 0,
        "holes_said": f"{found.holes:.0%}",
        "map": _map(found.counts, f"overlap of the {found.of}"),
        "ripple": _ripple(spec, weight),
        "phases": _phases(spec, size),
        "suggestions": _suggestions(spec, weight),
    }


def _map(period: npt.NDArray[Any], title: str) -> dict[str, Any]:
    """A few periods of values as texts and shades from 0 to 1; of three axes the last two."""
    plane = np.atleast_2d(period[0] if period.ndim == 3 else period)
    rows, columns = (_repeats(n) for n in plane.shape)
    tiled = np.tile(plane, (1 if period.ndim == 1 else rows, columns))
    most = float(np.abs(plane).max())
    return {
        "rows": tiled.shape[0], "columns": tiled.shape[1], "title": title,
        "text": [number(float(value)) for value in tiled.flat],
        "shade": [round(abs(float(value)) / most, 3) if most else 0.0 for value in tiled.flat],
    }  # fmt: skip


def _repeats(period: int) -> int:
    return max(1, min(max(_PERIODS, -(-6 // period)), _MOST_CELLS // period))


def _ripple(spec: ConvSpec, weight: Sequence[float] | None) -> dict[str, Any] | None:
    """The ripple of one channel with this kernel; None where a layer has no weights."""
    from outstride.artifacts.gain import ripple
    from outstride.studio.layers import of_one_channel

    if spec.is_pool:
        return None
    made = of_one_channel(spec, weight or _counting(spec))
    try:
        found = ripple(made)
    except OutstrideError:
        return None
    return {
        "of": found.of,
        "said": f"{found.value:.1%}",
        "of_example": True,
        "map": _map(found.gain[0, 0], f"gain of the {found.of}"),
    }


def _counting(spec: ConvSpec) -> list[float]:
    return [float(n) for n in range(1, prod(spec.kernel_size) + 1)]


def _suggestions(spec: ConvSpec, weight: Sequence[float] | None) -> list[dict[str, Any]]:
    from outstride.artifacts.suggestions import suggestions
    from outstride.studio.layers import of_one_channel

    if spec.is_pool:
        return []
    try:
        found = suggestions(of_one_channel(spec, weight or _counting(spec)))
    except OutstrideError:
        return []
    return [_suggestion(one, spec) for one in found]


def _suggestion(one: Any, spec: ConvSpec) -> dict[str, Any]:
    if one.kind != "same sizes":
        return {"layer": "", "text": str(one)}
    known = {name: getattr(spec, name) for name in ("in_channels", "out_channels", "groups", "bias")}
    same = ConvSpec.parse(one.text.removeprefix("outstride.nn."))
    kept = ConvSpec(
        same.kind, same.kernel_size, same.stride, same.padding, same.dilation, same.output_padding, **known
    )
    return {"layer": repr(kept), "text": one.kind}


def _phases(spec: ConvSpec, size: tuple[int, ...]) -> list[dict[str, Any]]:
    """Each phase of each axis: its outputs, its kernel elements, and the inputs that they meet."""
    along = axis_phases(spec, size)
    alike = all(phases == along[0] for phases in along)
    rows = []
    for name, phases in zip(_AXES[spec.nd], along[:1] if alike else along, strict=False):
        axis = "" if alike else f"{name} "
        rows += [
            {
                "outputs": axis + _at(phase.out_step, phase.out_start),
                "taps": ", ".join(str(tap) for tap, _ in phase.taps) or "none",
                "reads": _reads(phase),
            }
            for phase in phases[:_MOST_CELLS]
        ]
    return rows


def _reads(phase: Phase) -> str:
    if not phase.taps:
        return "nothing: the bias alone"
    offsets = sorted(offset for _, offset in phase.taps)
    return ", ".join(_at(phase.in_step, offset) for offset in offsets)


def _at(step: int, start: int) -> str:
    first = "n" if step == 1 else f"{step}n"
    return first if not start else f"{first} {'+' if start > 0 else '−'} {abs(start)}"
