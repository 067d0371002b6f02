"""What the stage shows of a layer: its scenes, its phases in colours, its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from outstride.errors import OutstrideError
from outstride.explanation.example import Example, example
from outstride.explanation.explaining import Explanation
from outstride.explanation.scene import Scene, in_cell
from outstride.geometry import output_size, resolve
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import Edited, fitting
from outstride.studio.readings import Numbers, Reading, phase_counts, readings, tap_phases
from outstride.studio.scenes import scene_json


@dataclass(frozen=True)
class Shown:
    """A layer small enough to be followed: what explains it, and what each output reads."""

    example: Example
    explanation: Explanation
    readings: list[Reading]


def shown(spec: ConvSpec, size: tuple[int, ...] | None, edited: Edited) -> Shown:
    """Explain a layer with these numbers.

    Raises:
        OutstrideError: it has no such view, or is too large to be followed.
    """
    taps = prod(spec.kernel_size)
    weight = fitting(edited.kernel, taps)
    bias = edited.bias if spec.bias else 0.0
    made = example(spec, weight, bias, _source(size, edited))
    explained = Explanation(made, ())
    return Shown(made, explained, _readings(spec, made, explained))


def _source(size: tuple[int, ...] | None, edited: Edited) -> Any:
    row = None if size is None else fitting(edited.input, prod(size))
    return size if row is None else np.asarray(row).reshape(size or -1)


def input_size(made: Example) -> tuple[int, ...]:
    """The size of what is shown, with the layer's own axes."""
    shape: tuple[int, ...] = made.x.shape
    return shape[2 - made.spec.nd :] if made.spec.nd < 3 else shape


def _readings(spec: ConvSpec, made: Example, explained: Explanation) -> list[Reading]:
    flat = Numbers(
        made.x.ravel().tolist(), made.weight.ravel().tolist(), explained.output.ravel().tolist(), made.bias
    )
    return readings(spec, input_size(made), flat)


def views_json(found: Shown) -> list[dict[str, Any]]:
    """Every scene of the layer, with its gradient and its phases where it has them."""
    numbers = found.example
    counts = {"input": numbers.x.size, "kernel": numbers.weight.size, "output": found.explanation.output.size}
    made = [scene_json(scene, counts) for scene in found.explanation.views.values()]
    phased, back = phases_json(found), gradient(found)
    made += [phased] if phased else []
    return [*made, scene_json(back, {})] if back else made


def scene_of(found: Shown, view: str) -> Scene:
    """The scene of that name; the layer's first where it has none, such as for its phases."""
    back = gradient(found) if view == "gradient" else None
    return back or found.explanation.views.get(view) or next(iter(found.explanation.views.values()))


def gradient(found: Shown) -> Scene | None:
    """What comes back to the input: the adjoint layer at work on ones, one for each output.

    None where it has no scene of its own, such as beside padding modes.
    """
    spec, made = found.example.spec, found.example
    if spec.is_pool:
        return None
    size = input_size(made)
    ones = np.ones(output_size(spec, size))
    try:
        adjoint = example(_adjoint(spec, size), made.weight, 0.0, ones)
        explained = Explanation(adjoint, ())
    except OutstrideError:
        return None
    scene = next(iter(explained.views.values()))
    title = "The gradient: each output stamps the kernel back"
    if spec.kind == "conv_transpose":
        title = "The gradient: a window gathers it back"
    return replace(scene, name="gradient", title=title)


def _adjoint(spec: ConvSpec, size: tuple[int, ...]) -> ConvSpec:
    """The layer whose matrix is this one's, turned over."""
    numbers, out = resolve(spec, size), output_size(spec, size)
    turned: dict[str, Any] = {
        "kernel_size": spec.kernel_size, "stride": spec.stride, "padding": numbers.padding,
        "dilation": spec.dilation, "padding_mode": spec.padding_mode,
    }  # fmt: skip
    if spec.kind == "conv":
        return resolve(ConvSpec("conv_transpose", **turned), out, size)
    return ConvSpec("conv", **turned)


def phases_json(found: Shown) -> dict[str, Any] | None:
    """Kernel and output in the colours of their phases: first all of them, then one by one.

    None where there is one phase alone.
    """
    spec, made = found.example.spec, found.example
    size = input_size(made)
    counted = phase_counts(spec, size)
    rows = counted["rows"]
    if len(rows) == 1 or spec.nd > 2:
        return None
    taps = tap_phases(spec, size)
    of_output = [reading.phase for reading in found.readings]
    grids = [
        _coloured("input", "i", made.x, [-1] * made.x.size),
        _coloured("kernel", "k", made.weight, taps),
        _coloured("output", "o", found.explanation.output, of_output),
    ]
    frames: list[dict[str, Any]] = [{"caption": _of_all(counted["period"], rows), "only": None}]
    for number, row in enumerate(rows):
        frames.append({"caption": _of_one(row, of_output.count(number)), "only": number})
    return {
        "name": "phases",
        "title": "Phases: outputs that read through the same taps",
        "notes": [],
        "grids": grids,
        "frames": frames,
    }


def _coloured(title: str, role: str, values: Any, phases: Sequence[int]) -> dict[str, Any]:
    grid = np.atleast_2d(values)
    return {
        "title": title, "role": role, "rows": grid.shape[0], "columns": grid.shape[1],
        "text": [in_cell(float(value)) for value in grid.flat], "phases": list(phases),
    }  # fmt: skip


def _of_all(period: list[int], rows: list[dict[str, Any]]) -> str:
    counts = [row["count"] for row in rows]
    each = f"{counts[0]} taps each" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} taps"
    return f"{' × '.join(map(str, period))} phases, {each}; no zero is multiplied"


def _of_one(row: dict[str, Any], outputs: int) -> str:
    where = ", ".join(map(str, row["at"]))
    if not row["count"]:
        return f"phase ({where}): no tap reaches its {outputs} outputs, which hold the bias alone"
    taps = " × ".join(map(str, row["taps"]))
    return f"phase ({where}): {outputs} outputs, each a sum over {taps} taps"
