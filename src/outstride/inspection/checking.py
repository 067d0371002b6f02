"""`outstride.check`: a model in, a report out."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import lcm
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.inspection.costs import peak_bytes, size_bytes
from outstride.inspection.field import Field
from outstride.inspection.figures import figures
from outstride.inspection.findings import Halo
from outstride.inspection.lineage import Lineage
from outstride.inspection.report import Report
from outstride.inspection.sizes import Probe, Sizes, Taken, admissible, cycle_of, place_of
from outstride.inspection.walk import Walk
from outstride.layer import arguments as argument
from outstride.models.trace import Runner, Trace


def check(
    model: torch.nn.Module,
    input_shape: Sequence[int],
    *,
    axes: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    arguments: Mapping[str, Any] | None = None,
    sizes: bool = True,
) -> Report:
    """Say of every layer of a model where it looks and what it costs, and of the model which images it takes.

    Args:
        model: any module; it is run on shapes alone, in inference mode, and left as it is.
        input_shape: shape of its first input, such as (1, 3, 256, 256).
        axes: the axes of that input along which its positions lie; all after the first two where none are
            given, and the second of two.
        dtype: of the input; the one of the model's first parameter where none is given.
        arguments: further arguments of the model by name, such as a time step.
        sizes: whether to find the sizes that the model accepts, which takes many runs without numbers.

    Returns:
        The report. Along each axis of the image, position q of a layer's output nominally lies at
        ``stride * q + centre`` pixels of the input, and reads an interval that depends on q modulo the number
        of output phases. ``offset`` is ``centre - (stride - 1) / 2``, the distance to a plain rescaling with
        half-pixel centres. Strides and offsets are fractions and exact. Multiply-adds are the products of two
        elements that exist: taps on zero padding and outputs that are cropped away do not count.

    Raises:
        ArgumentError: ``model`` is no module, or the shape or axes have no meaning.
        ShapeError: the model does not run at that shape.

    Law: an output depends on no pixel outside of the interval that its layer declares.

    Example:
        >>> up = torch.nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        >>> width = check(up, (1, 8, 16, 16)).layers[0].fields[1]
        >>> str(width.stride), width.sizes, str(width.offset)
        ('1/2', (1, 2), '1/4')

    Source: Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks, Distill 2019,
    for convolutions without transposition.
    """
    shape, dims = _checked(model, input_shape, axes)
    first = next((p.dtype for p in model.parameters()), torch.float32)
    runner = Runner(model, dtype or first, arguments or {})
    trace = runner.trace(shape)
    walk = Walk(trace, dims)
    lineages = [
        found for call in trace.calls for found in map(walk.lineage, call.outputs) if found is not None
    ]
    output_fields = _output_fields(trace, walk, len(dims))
    cycles = [cycle_of(lineages, axis) for axis in range(len(dims))]
    probes = [Probe(runner, shape, dim) for dim in dims]
    taken = _sizes(probes, walk, lineages, cycles) if sizes else [Taken()] * len(dims)
    unique = {id(p): p for p in model.parameters()}.values()
    return Report(
        type(model).__name__, shape, str(trace.input.dtype).removeprefix("torch."), dims,
        tuple(figures(model, trace, walk)), tuple(tuple(t.shape) for t in trace.outputs), tuple(taken),
        tuple(_halo(walk, axis, cycle, probes[axis]) for axis, cycle in enumerate(cycles)),
        sum(p.numel() for p in unique), sum(map(size_bytes, unique)), peak_bytes(trace, walk),
        runner.device == "meta", tuple(sorted(output_fields.items())), weakref.ref(model),
    )  # fmt: skip


def _checked(
    model: object, input_shape: Sequence[int], axes: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    argument.module("model", model)
    shape = argument.shape("input_shape", input_shape, 1)
    rank = len(shape)
    usual = range(rank)[1:] if rank == 2 else range(rank)[2:]
    chosen = tuple(usual) if axes is None else tuple(axes)
    if any(not -rank <= axis < rank for axis in chosen) or len({axis % rank for axis in chosen}) < len(
        chosen
    ):
        raise ArgumentError(
            f"'axes' must be different axes of 'input_shape': got {chosen} for {shape}; "
            f"legal: 0 to {rank - 1}"
        )
    return shape, tuple(axis % rank for axis in chosen)


def _output_fields(trace: Trace, walk: Walk, count: int) -> dict[int, Field]:
    """The fields of the first output, or of the first that has positions along an axis."""
    fields: dict[int, Field] = {}
    for tensor in trace.outputs:
        found = walk.lineage(tensor)
        settled = {} if found is None or found.unknown else found.settled().fields
        for axis in range(count):
            if axis in settled:
                fields.setdefault(axis, settled[axis])
    return fields


def _halo(walk: Walk, axis: int, cycle: int, probe: Probe) -> Halo:
    low = high = 0
    step = cycle
    lineages = enumerate(map(walk.lineage, walk.trace.outputs))
    found = [(number, lineage) for number, lineage in lineages if lineage is not None]
    for _, lineage in found:
        if lineage.unknown:
            return Halo(None, None, cycle, "an operation is not understood")
        if axis in lineage.whole:
            return Halo(None, None, cycle, "a layer looks at the whole image")
        field = lineage.settled().fields.get(axis)
        if field is None or field.stride <= 0 or field.period > max(lineage.shape, default=1):
            return Halo(None, None, cycle, "the output has no grid that repeats along this axis")
        reads = [read for read in field.reads if read is not None]
        low = max([low, *(-read[0] for read in reads)])
        high = max([high, *(read[1] - field.jump + 1 for read in reads)])
        step = lcm(step, field.jump)
    if not all(_grows(probe, number, lineage, axis, step) for number, lineage in found):
        # Seen by trying: a resize to a given size, or one that aligns corners, follows the size of the image.
        return Halo(None, None, cycle, "the output's grid is another one at another size of the image")
    return Halo(low, high, step)


def _grows(probe: Probe, number: int, lineage: Lineage, axis: int, step: int) -> bool:
    """Whether an image larger by a step has as many more outputs as the stride says."""
    dim, larger = place_of(lineage, axis), probe.shapes(probe.size + step)
    if dim is None or larger is None or len(larger) <= number:
        return False
    more = larger[number][dim] - lineage.shape[dim]
    return more * lineage.settled().fields[axis].stride == step


def _sizes(
    probes: Sequence[Probe], walk: Walk, lineages: Sequence[Lineage], cycles: Sequence[int]
) -> list[Taken]:
    rows: list[Taken] = []
    for axis, probe in enumerate(probes):
        if axis and _alike(lineages, axis) and _confirmed(probe, rows[0]):
            rows.append(rows[0])
            continue
        runs = admissible(probe.runs, probe.size, cycles[axis])
        rows.append(Taken(runs, *_returned(probe, walk, axis, cycles[axis])))
    return rows


def _returned(probe: Probe, walk: Walk, axis: int, cycle: int) -> tuple[Sizes | None, Fraction | None]:
    """Sizes whose first output is size / scale, and that scale: the stride, or what the sizes show."""
    lineage = walk.lineage(walk.trace.outputs[0]) if walk.trace.outputs else None
    dim = None if lineage is None else place_of(lineage, axis)
    if lineage is None or dim is None:
        return None, None
    stride = lineage.settled().fields[axis].stride
    # Where a resize follows the size of the image, the stride is that of this size alone.
    shown = Fraction(probe.size, lineage.shape[dim])
    scales = [stride, shown] if 1 in shown.as_integer_ratio() else [stride]
    for scale in scales:
        found = admissible(partial(probe.returns, dim=dim, scale=scale), probe.size, cycle)
        if found.remainders or found.listed:
            return found, scale
    return found, None


def _alike(lineages: Iterable[Lineage], axis: int) -> bool:
    """Whether this axis goes the same way as the first one through the whole model."""
    return all(
        lineage.fields.get(0) == lineage.fields.get(axis) and (0 in lineage.whole) == (axis in lineage.whole)
        for lineage in lineages
    )


def _confirmed(probe: Probe, first: Taken) -> bool:
    """Whether the sizes of the first axis hold for this one too: tried at a few that differ."""
    found = first.runs
    if found is None or not (found.remainders or found.listed):
        return False
    base = found.least if found.listed else found.least + 2 * found.modulus
    tried = (
        range(base, base + min(found.modulus + 1, 4)) if not found.listed else (*found.listed[:2], base - 1)
    )
    return all(probe.runs(n) == (n in found) for n in tried)
