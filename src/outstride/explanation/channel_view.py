"""Several channels: sums over those that are read, a kernel for each pair, and groups that stay apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from outstride.explanation.arithmetic import canvas, factor, stamp, terms
from outstride.explanation.example import Array, Channels, Example, Place
from outstride.explanation.scene import Frame, Grid, Role, Scene, number
from outstride.explanation.sheets import Sheet, at, border


def channels(example: Example, every: Channels) -> Scene:
    """An output reads all channels of its group, or an input of a transposed layer stamps on all of them."""
    frames = _stamped(example, every) if example.transposed else _summed(example, every)
    title = "Each group of channels by itself" if every.groups > 1 else "Every channel at once"
    left = f"{every.left_out} more output channels are made in the same way."
    return Scene("channels", title, tuple(frames), (left,) if every.left_out else ())


def _below(title: str, values: Iterable[Array], role: Role, marks: dict[Place, Role]) -> list[Sheet]:
    """A sheet for each channel, all with these marks."""
    return [Sheet(f"{title}, channel {c}", value, role, marks) for c, value in enumerate(values)]


def _stack(sheets: Sequence[Sheet], first: int = 0) -> list[Grid]:
    """One channel below the other."""
    return [grid for c, sheet in enumerate(sheets, first) for grid in sheet.grids(c)]


def _summed(example: Example, every: Channels) -> list[Frame]:
    padded = [replace(example, x=x).padded for x in every.x]
    marks = border(padded[0].shape, example.low, example.x.shape)
    inputs = _below("input, padded" if marks else "input", padded, "input", marks)
    outs, each = every.weight.shape[:2]
    made, frames = np.full((outs, *example.output), np.nan), []
    for out, bias in enumerate(map(float, every.bias)):
        first = out // (outs // every.groups) * each
        read = range(first, first + each)
        names = [f"kernel of output {out}"] if each == 1 else [f"kernel {out}, channel {c}" for c in read]
        kernels = [Sheet(name, w, "kernel") for name, w in zip(names, every.weight[out], strict=True)]
        for place in np.ndindex(*example.output):
            products = [
                terms(example, padded[c], k.values, place) for c, k in zip(read, kernels, strict=True)
            ]
            sums = [sum(t.weight * t.value for t in some) for some in products]
            made[out][place] = sum(sums) + bias
            window = [t.at for t in products[0]]
            outputs = _below("output", made.copy(), "output", {})
            outputs[out] = outputs[out].marked([place], "result")
            alone = np.array(sums).reshape(each, *(1,) * example.spec.nd)
            partial = [Sheet(f"sum, channel {c}", s, "active") for c, s in zip(read, alone, strict=True)]
            columns = (
                _stack([s.marked(window, "active") if c in read else s for c, s in enumerate(inputs)]),
                _stack(kernels, first),
                _stack(partial, first) if each > 1 else [],
                _stack(outputs),
            )
            parts = [*map(factor, sums), *([factor(bias)] if bias else [])]
            equal = f"{' + '.join(parts)} = " if len(parts) > 1 else ""
            caption = f"output {at(place)} of channel {out} = {equal}{number(float(made[out][place]))}"
            frames.append(Frame(tuple(grid for column in columns for grid in column), caption))
    return frames


def _stamped(example: Example, every: Channels) -> list[Frame]:
    ins, each = every.weight.shape[:2]
    full, frames = np.zeros((every.groups * each, *canvas(example))), []
    outside = border(full.shape[1:], example.low, example.output)
    inputs = _below("input", every.x, "input", {})
    whole = "every output channel" if every.groups == 1 else "the output channels of its group"
    for channel, x in enumerate(every.x):
        first = channel // (ins // every.groups) * each
        stamped = range(first, first + each)
        # Beside the outputs that they make, but not below the inputs, where they would stand in their column.
        beside = min(first, len(inputs) - 1)
        for place in np.ndindex(*x.shape):
            value = number(float(x[place]))
            stamps = x[place] * every.weight[channel]
            for out, s in zip(stamped, stamps, strict=True):
                where = stamp(example, full[out], place, s)
            kernels = _kernels(f"{value} times kernel {channel}", stamped, stamps)
            shown = _below("stamps so far", full.copy(), "output", outside)
            columns = (
                _stack([s.marked([place], "active") if c == channel else s for c, s in enumerate(inputs)]),
                _stack(kernels, beside),
                _stack([s.marked(where, "active") if out in stamped else s for out, s in enumerate(shown)]),
            )
            caption = f"input {at(place)} of channel {channel} = {value} stamps on {whole}"
            frames.append(Frame(tuple(grid for column in columns for grid in column), caption))
    inner = tuple(slice(low, low + n) for low, n in zip(example.low, example.output, strict=True))
    biases = every.bias.reshape(-1, *(1,) * example.spec.nd)
    made = np.stack([channel[inner] for channel in full]) + biases
    last = _kernels(f"kernel {channel}", stamped, every.weight[channel])
    grids = (*_stack(inputs), *_stack(last, beside), *_stack(_below("output", made, "output", {})))
    frames.append(Frame(grids, "the stamps added up" + (", and the padding cropped" if outside else "")))
    return frames


def _kernels(title: str, outs: Iterable[int], values: Iterable[Array]) -> list[Sheet]:
    """A sheet for each output channel that an input channel stamps on."""
    return [Sheet(f"{title}, {out}", value, "kernel") for out, value in zip(outs, values, strict=True)]
