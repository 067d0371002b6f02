"""The phases of a transposed layer: outputs that read the same taps, each group in a colour of its own."""

from __future__ import annotations

from math import prod

import numpy as np

from outstride.explanation.arithmetic import Term, written
from outstride.explanation.example import Array, Example, Place
from outstride.explanation.scene import PHASES, Frame, Role, Scene, number
from outstride.explanation.sheets import Sheet, at, beside
from outstride.geometry import phases
from outstride.layer.axis import Phase


def has_phases(example: Example) -> bool:
    """Whether there are several phases, and no more than there are colours."""
    return 1 < prod(example.spec.stride) <= len(PHASES)


def in_phases(example: Example) -> Scene:
    """Phase by phase, each an ordinary convolution of the input by its own taps: no zero is multiplied."""
    every = phases(example.spec, example.x.shape)
    colours = dict(zip(every, PHASES, strict=False))
    of_taps: dict[Place, Role] = {tap: colour for along, colour in colours.items() for tap in _taps(along)}
    of_outputs: dict[Place, Role] = {
        place: colour for along, colour in colours.items() for place in _outputs(along, example.output)
    }
    source = Sheet("input", example.x, "input")
    kernel = Sheet("kernel", example.weight, "kernel", of_taps)
    made, frames = np.full(example.output, np.nan), []
    for number_of, along in enumerate(every):
        for place in _outputs(along, example.output):
            products = _terms(example, along, place)
            made[place] = sum(t.weight * t.value for t in products) + example.bias
            value = number(float(made[place]))
            grids = beside(
                source.marked((t.at for t in products), "active"),
                kernel.marked((t.tap for t in products), "active"),
                Sheet("output", made.copy(), "output", of_outputs).marked([place], "result"),
            )
            said = f"output {at(place)} = {written(products, example.bias)} = {value}"
            if not products:
                said = f"no tap reaches output {at(place)}: {value}"
            frames.append(Frame(grids, f"phase {number_of} of {len(every)}: {said}"))
    return Scene("phases", "Each phase is a convolution by its own taps", tuple(frames))


def _taps(along: tuple[Phase, ...]) -> list[Place]:
    """The kernel elements of a phase."""
    shape = [len(axis.taps) for axis in along]
    return [tuple(a.taps[i][0] for a, i in zip(along, index, strict=True)) for index in np.ndindex(*shape)]


def _outputs(along: tuple[Phase, ...], size: Place) -> list[Place]:
    """The outputs of a phase, in order."""
    ranges = [range(axis.out_start, n, axis.out_step) for axis, n in zip(along, size, strict=True)]
    shape = [len(r) for r in ranges]
    return [tuple(r[i] for r, i in zip(ranges, index, strict=True)) for index in np.ndindex(*shape)]


def _terms(example: Example, along: tuple[Phase, ...], place: Place) -> list[Term]:
    """The products of an output, those with what lies beside the input left out."""
    x: Array = example.x
    shape = [len(axis.taps) for axis in along]
    found = []
    for index in np.ndindex(*shape):
        taps = [axis.taps[i] for axis, i in zip(along, index, strict=True)]
        where = tuple(
            (p - axis.out_start) // axis.out_step * axis.in_step + offset
            for p, axis, (_, offset) in zip(place, along, taps, strict=True)
        )
        if all(0 <= w < n for w, n in zip(where, x.shape, strict=True)):
            tap = tuple(k for k, _ in taps)
            found.append(Term(float(example.weight[tap]), float(x[where]), tap, where))
    return found
