"""`outstride.check`: a model in, a report out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.inspection.costs import peak_bytes, size_bytes
from outstride.inspection.field import Field
from outstride.inspection.figures import figures
from outstride.inspection.findings import Halo
from outstride.inspection.lineage import Lineage
from outstride.inspection.report import Report
from outstride.inspection.sizes import MOST_RUNS, Probe, Sizes, admissible, cycle_of
from outstride.inspection.trace import Runner, Trace
from outstride.inspection.walk import Walk


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
    found, returning = (
        _sizes(runner, trace, walk, dims, lineages, cycles) if sizes else ([None] * len(dims),) * 2
    )
    unique = {id(p): p for p in model.parameters()}.values()
    return Report(
        type(model).__name__, shape, str(trace.input.dtype).removeprefix("torch."), dims,
        tuple(figures(model, trace, walk)), tuple(tuple(t.shape) for t in trace.outputs),
        tuple(found), tuple(returning),
        tuple(_halo(trace, walk, axis, cycle) for axis, cycle in enumerate(cycles)),
        sum(p.numel() for p in unique), sum(map(size_bytes, unique)), peak_bytes(trace, walk),
        runner.device == "meta", tuple(sorted(output_fields.items())),
    )  # fmt: skip


def _checked(
    model: object, input_shape: Sequence[int], axes: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(model, torch.nn.Module):
        raise ArgumentError(
            f"'model' must be a torch module: got {type(model).__name__}; legal: torch.nn.Module"
        )
    shape = tuple(input_shape)
    if not shape or any(n < 1 for n in shape):
        raise ArgumentError(
            f"'input_shape' must be whole numbers of at least 1: got {shape}; legal: (1, 3, 256, 256)"
        )
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
        settled = {} if found is None else found.settled().fields
        for axis in range(count):
            if axis in settled:
                fields.setdefault(axis, settled[axis])
    return fields


def _halo(trace: Trace, walk: Walk, axis: int, step: int) -> Halo:
    low = high = 0
    for tensor in trace.outputs:
        found = walk.lineage(tensor)
        if found is None:
            continue
        lineage = found.settled()
        if lineage.unknown:
            return Halo(None, None, step, "an operation is not understood")
        if axis in lineage.whole:
            return Halo(None, None, step, "a layer looks at the whole image")
        field = lineage.fields.get(axis)
        if field is None or not field.stride or field.period > max(lineage.shape, default=1) // 2 > step:
            return Halo(None, None, step, "the output has no grid that repeats along this axis")
        reads = [read for read in field.reads if read is not None]
        low = max(low, *(-read[0] for read in reads))
        high = max(high, *(read[1] - field.jump + 1 for read in reads))
    return Halo(low, high, step)


def _sizes(
    runner: Runner,
    trace: Trace,
    walk: Walk,
    dims: Sequence[int],
    lineages: Iterable[Lineage],
    cycles: Sequence[int],
) -> tuple[list[Sizes | None], list[Sizes | None]]:
    shape = tuple(trace.input.shape)
    every = list(lineages)
    found: list[Sizes | None] = []
    returning: list[Sizes | None] = []
    for axis, dim in enumerate(dims):
        probe = Probe(runner, shape, dim)
        if axis and _alike(every, axis) and _confirmed(probe, found[0], returning[0]):
            found.append(found[0])
            returning.append(returning[0])
            continue
        found.append(admissible(probe.runs, shape[dim], cycles[axis]))
        returning.append(_returning(probe, trace, walk, axis, shape[dim], cycles[axis]))
    return found, returning


def _returning(probe: Probe, trace: Trace, walk: Walk, axis: int, size: int, cycle: int) -> Sizes | None:
    found = walk.lineage(trace.outputs[0]) if trace.outputs else None
    if found is None or axis not in found.fields:
        return None
    lineage = found.settled()
    dim = next((n for n in range(len(lineage.dims)) if axis in lineage.axes_of(n)), None)
    stride = lineage.fields[axis].stride
    if (
        dim is None
        or lineage.dims[dim][0].inner
        or lineage.placed(dim) is None
        or stride.denominator > size // 2 > 0
    ):
        return None
    return admissible(lambda n: probe.returns(n, dim, stride), size, cycle)


def _alike(lineages: Iterable[Lineage], axis: int) -> bool:
    """Whether this axis goes the same way as the first one through the whole model."""
    return all(
        lineage.fields.get(0) == lineage.fields.get(axis) and (0 in lineage.whole) == (axis in lineage.whole)
        for lineage in lineages
    )


def _confirmed(probe: Probe, found: Sizes | None, returning: Sizes | None) -> bool:
    """Whether the sizes of the first axis hold for this one too: tried at a few that differ."""
    if found is None or not (found.remainders or found.listed):
        return False
    base = found.least if found.listed else found.least + 2 * found.modulus
    tried = (
        range(base, base + min(found.modulus + 1, 4)) if not found.listed else (*found.listed[:2], base - 1)
    )
    del returning
    return all(probe.runs(n) == (n in found) for n in tried)


__all__ = ["MOST_RUNS", "check"]
