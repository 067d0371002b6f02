"""What the stage shows of a layer: what explains it with the reader's numbers, and what each output reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from outstride.explanation.arithmetic import pooled
from outstride.explanation.example import Example, example
from outstride.explanation.explaining import Explanation, notes_of
from outstride.explanation.scene import Scene
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import Edited, fitting
from outstride.studio.readings import Numbers, Reading, readings
from outstride.studio.scenes import scene_json

#: The views whose numbers are those of the layer's input, kernel and output, and not of a way back.
_OF_THE_LAYER = ("window", "stamps", "zeros", "matrix", "short", "phases")


@dataclass(frozen=True)
class Shown:
    """A layer small enough to be followed."""

    example: Example
    explanation: Explanation

    def readings(self) -> list[Reading]:
        """Every output with what it reads, row by row."""
        made, output = self.example, self.explanation.output
        x, weight, result = (array.ravel().tolist() for array in (made.x, made.weight, output))
        averaged = made.spec.kind == "avg_pool"
        divisors = [pooled(made, place).divisor for place in np.ndindex(*made.output)] if averaged else []
        return readings(made.spec, made.x.shape, Numbers(x, weight, result, made.bias, divisors))

    def scene(self, view: str) -> Scene:
        """The scene of that name; the first where there is none."""
        views = self.explanation.views
        return views[view] if view in views else next(iter(views.values()))

    def scene_json(self, view: str) -> dict[str, Any]:
        """The same as plain values."""
        scene, counts = self.scene(view), dict[str, int]()
        if scene.name in _OF_THE_LAYER:
            made = self.example
            counts = {"input": made.x.size, "output": self.explanation.output.size}
            counts |= {} if made.spec.is_pool else {"kernel": made.weight.size}
        return scene_json(scene, counts)

    def numbers(self) -> Mapping[str, Any]:
        """What a reader may change."""
        made = self.example
        return {"input": made.x.ravel().tolist(), "kernel": made.weight.ravel().tolist(), "bias": made.bias}


def shown(spec: ConvSpec, size: tuple[int, ...] | None, edited: Edited) -> Shown:
    """Explain a layer with these numbers.

    Raises:
        OutstrideError: it has no view, or is too large to be followed.
    """
    source = _source(size, edited)
    bias = np.full(spec.out_channels or 1, edited.bias) if spec.bias and edited.bias else None
    made, every = example(spec, _weight(spec, edited), bias, source)
    return Shown(made, Explanation(made, every, notes_of(spec, source)))


def _source(size: tuple[int, ...] | None, edited: Edited) -> Any:
    row = None if size is None else fitting(edited.input, prod(size))
    return size if row is None else np.asarray(row).reshape(size or -1)


def _weight(spec: ConvSpec, edited: Edited) -> Any:
    """The typed kernel as that of the first pair of channels; the others count on."""
    taps = prod(spec.kernel_size)
    kernel = None if spec.is_pool else fitting(edited.kernel, taps)
    if kernel is None:
        return None
    ins, outs = spec.in_channels or spec.groups, spec.out_channels or spec.groups
    rows, columns = (ins, outs) if spec.kind == "conv_transpose" else (outs, ins)
    pairs = (rows, columns // spec.groups)
    if prod(pairs) * taps > _MOST_WEIGHTS:
        pairs = (1, 1)
    whole = np.arange(1.0, prod(pairs) * taps + 1).reshape(*pairs, *spec.kernel_size)
    whole[0, 0] = np.reshape(kernel, spec.kernel_size)
    return whole


_MOST_WEIGHTS = 1 << 14
