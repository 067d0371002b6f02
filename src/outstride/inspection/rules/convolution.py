"""Rules for convolutions, transposed or not: an axis is passed through their windows, channels are summed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from outstride.geometry import axis_phases, resolved_padding
from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.visit import NotUnderstoodError, Result, RuleTable, Visit, known
from outstride.layer.spec import ConvSpec
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.reach import Reach, Window

#: Phases of an axis that are listed.
_MOST_PHASES = 1 << 16


def convolution(visit: Visit, operator: Convolution) -> Result:
    """With weights that do not depend on the image."""
    if visit.lineage(operator.weight) is not None:
        raise NotUnderstoodError("weights that are computed from the image")
    return slid(_summed_channels(visit, operator.nd), operator.windows, visit.shape[-operator.nd :])


def slid(lineage: Lineage, windows: Sequence[Window], sizes: Sequence[int]) -> Lineage:
    """The last axes passed through the axes of a layer, to these sizes."""
    first = len(lineage.dims) - len(sizes)
    for number, (window, size) in enumerate(zip(windows, sizes, strict=True)):
        if window.low < 0:
            raise NotUnderstoodError("a negative padding")
        if window.transposed:
            _check_phases(window.stride)
        lineage = known(lineage.through(first + number, window.reach, size))
    return lineage


def _check_phases(count: int) -> None:
    if count > _MOST_PHASES:
        raise NotUnderstoodError(f"a stride of {count}")


def _summed_channels(visit: Visit, nd: int) -> Lineage:
    """The input with its channels summed, which matters where positions were moved into them."""
    source = visit.source
    channel = len(source.dims) - nd - 1
    found, covered = source.reduced([channel])
    visit.sees_all(covered, "sums over channels that hold positions")
    return found.put(channel, free(visit.shape[channel]))


def with_padding_mode(visit: Visit, layer: Any) -> Sequence[Lineage]:
    """A layer with a padding mode, which acts on the border alone."""
    spec = ConvSpec.of(layer)
    size = tuple(visit.call.inputs[0].shape[-spec.nd :])
    lineage = _summed_channels(visit, spec.nd)
    first = len(lineage.dims) - spec.nd
    pads = resolved_padding(spec, size)
    for number, phases in enumerate(axis_phases(spec, size)):
        _check_phases(len(phases))
        middle = Fraction(spec.window[number] - 1, 2) - pads[number][0]
        reach = Reach.of_phases(phases, middle)
        lineage = known(lineage.through(first + number, reach, visit.shape[first + number]))
    if spec.padding_mode == "circular" and any(map(any, pads)):
        visit.wraps("circular padding reads the far side of the image")
    return [lineage]


RULES: RuleTable = {Convolution: convolution}
