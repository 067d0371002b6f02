"""The way back: what each output's gradient adds to that of the input, and to that of the kernel."""

from __future__ import annotations

import numpy as np

from outstride.explanation.arithmetic import canvas, pooled, stamp, terms, window_at
from outstride.explanation.example import Array, Example, Place
from outstride.explanation.scene import Frame, Grid, Role, Scene, number
from outstride.explanation.sheets import Sheet, at, beside, border
from outstride.explanation.window import padded_input
from outstride.geometry import source_index


def gradient(example: Example) -> Scene:
    """The gradients of input and kernel, where those of the outputs are counting numbers."""
    if example.spec.is_pool:
        return _of_pooling(example)
    return _of_stamps(example) if example.transposed else _of_window(example)


def _counted(size: Place) -> Array:
    counted: Array = np.arange(1.0, np.prod(size) + 1).reshape(size)
    return counted


def _table(above: tuple[Sheet, ...], below: tuple[Sheet, ...]) -> tuple[Grid, ...]:
    """The gradient that comes from behind, and beside it column by column one sheet above the other."""
    rows = max(len(sheet.grids()) for sheet in above)
    columns = zip(above[1:], below, strict=True)
    return (*above[0].grids(), *(grid for a, b in columns for grid in (*a.grids(), *b.grids(rows))))


def _of_window(example: Example) -> Scene:
    """Convolution: each gradient stamps the kernel on the input's, and adds its window to the kernel's."""
    behind, source = _counted(example.output), padded_input(example)
    full, of_kernel, frames = np.zeros(source.values.shape), np.zeros(example.weight.shape), []
    outside = border(full.shape, example.low, example.x.shape)
    kernel = Sheet("kernel", example.weight, "kernel")
    for place in np.ndindex(*example.output):
        value = behind[place]
        where = stamp(example, full, place, value * example.weight)
        for tap, seen in window_at(example, place):
            of_kernel[tap] += value * source.values[seen]
        grids = _table(
            (
                Sheet("gradient of the output", behind, "output", {place: "active"}),
                kernel,
                Sheet("gradient of the input", full.copy(), "input", outside).marked(where, "result"),
            ),
            (
                Sheet("gradient of the kernel", of_kernel.copy(), "kernel").marked(_all(of_kernel), "result"),
                source.marked(where, "active"),
            ),
        )
        times = number(float(value))
        said = (
            f"gradient {at(place)} = {times}: {times} times the kernel is added to the input's, "
            f"{times} times what it read to the kernel's"
        )
        frames.append(Frame(grids, said))
    grids = _table(
        (
            Sheet("gradient of the output", behind, "output"),
            kernel,
            Sheet("gradient of the input", _folded(example, full), "result", outside),
        ),
        (Sheet("gradient of the kernel", of_kernel, "result"), source),
    )
    lost = example.spec.padding_mode == "zeros"
    of_border = "dropped" if lost else "added to the inputs that it repeats"
    end = ["the way back is the transposed layer"]
    end += [f"what lies on the padding is {of_border}"] if outside else []
    frames.append(Frame(grids, "; ".join([*end, *_of_bias(example, behind)])))
    return Scene("gradient", "The way back: gradients of input and kernel", tuple(frames))


def _all(array: Array) -> list[Place]:
    return list(np.ndindex(*array.shape))


def _of_bias(example: Example, behind: Array) -> list[str]:
    return [f"the bias gets the sum {number(float(behind.sum()))}"] if example.spec.bias else []


def _folded(example: Example, full: Array) -> Array:
    """What was added on the padding, given to the inputs that it stands for; zeros stand for none."""
    mode = example.spec.padding_mode
    if mode == "zeros":
        return full
    folded = np.full(full.shape, np.nan)
    folded[tuple(slice(low, low + n) for low, n in zip(example.low, example.x.shape, strict=True))] = 0
    for place in np.ndindex(*full.shape):
        axes = zip(place, example.low, example.x.shape, strict=True)
        home = tuple((source_index(p - low, n, mode) or 0) + low for p, low, n in axes)
        folded[home] += full[place]
    return folded


def _of_stamps(example: Example) -> Scene:
    """Transposed convolution: the window of an ordinary one slides over the gradient from behind."""
    full = np.zeros(canvas(example))
    inner = tuple(slice(low, low + n) for low, n in zip(example.low, example.output, strict=True))
    full[inner] = _counted(example.output)
    behind = Sheet("gradient of the output", full, "output", border(full.shape, example.low, example.output))
    kernel = Sheet("kernel", example.weight, "kernel")
    made, of_kernel, frames = np.full(example.x.shape, np.nan), np.zeros(example.weight.shape), []
    for place in np.ndindex(*example.x.shape):
        products = terms(example, full, example.weight, place)
        made[place] = sum(t.weight * t.value for t in products)
        for t in products:
            of_kernel[t.tap] += example.x[place] * t.value
        grids = _table(
            (
                behind.marked((t.at for t in products), "active"),
                kernel,
                Sheet("gradient of the input", made.copy(), "input", {place: "result"}),
            ),
            (
                Sheet("gradient of the kernel", of_kernel.copy(), "kernel").marked(_all(of_kernel), "result"),
                Sheet("input", example.x, "input", {place: "active"}),
            ),
        )
        said = (
            f"input {at(place)}: the kernel times the window is its gradient, {number(float(made[place]))}; "
            f"{number(float(example.x[place]))} times the window is added to the kernel's"
        )
        frames.append(Frame(grids, said))
    grids = _table(
        (behind, kernel, Sheet("gradient of the input", made, "result")),
        (Sheet("gradient of the kernel", of_kernel, "result"), Sheet("input", example.x, "input")),
    )
    said = "; ".join(["the way back is the convolution", *_of_bias(example, full[inner])])
    frames.append(Frame(grids, said))
    return Scene("gradient", "The way back: gradients of input and kernel", tuple(frames))


def _of_pooling(example: Example) -> Scene:
    """A maximum hands its gradient to the input that won; an average hands everyone the same part."""
    behind, made, frames = _counted(example.output), np.zeros(example.x.shape), []
    for place in np.ndindex(*example.output):
        found, value = pooled(example, place), float(behind[place])
        takers = found.reads if found.winner is None else (found.winner,)
        for taker in takers:
            made[taker] += value / found.divisor
        roles: dict[Place, Role] = {**dict.fromkeys(found.reads, "active"), **dict.fromkeys(takers, "result")}
        grids = beside(
            Sheet("input", example.x, "input", roles),
            Sheet("gradient of the output", behind, "output", {place: "active"}),
            Sheet("gradient of the input", made.copy(), "input").marked(takers, "result"),
        )
        if found.winner is not None:
            said = f"goes to {number(float(example.x[found.winner]))} at {at(found.winner)}, which won"
        else:
            part = number(value / found.divisor)
            said = f"gives {number(value)} / {found.divisor} = {part} to each that was read"
        if not takers:
            said = "has no input to go to"
        frames.append(Frame(grids, f"gradient {at(place)} = {number(value)} {said}"))
    largest = example.spec.kind == "max_pool"
    title = "The way back: only the largest gets a gradient" if largest else "The way back: equal parts"
    return Scene("gradient", title, tuple(frames))


def unpool(example: Example) -> Scene:
    """Each maximum goes back to where it came from, by the index that the pooling layer returns."""
    found = {place: pooled(example, place) for place in np.ndindex(*example.output)}
    values, indices = np.zeros(example.output), np.full(example.output, np.nan)
    for place, one in found.items():
        values[place] = one.value
        if one.winner is not None:
            indices[place] = np.ravel_multi_index(one.winner, example.x.shape)
    made, frames = np.zeros(example.x.shape), []
    source = Sheet("input", example.x, "input")
    for place, one in found.items():
        where = [] if one.winner is None else [one.winner]
        for winner in where:
            made[winner] = one.value
        grids = beside(
            source.marked(where, "active"),
            Sheet("largest", values, "output", {place: "active"}),
            Sheet("indices", indices, "kernel", {place: "active"}),
            Sheet("unpooled", made.copy(), "output").marked(_zeros(made), "border").marked(where, "result"),
        )
        said = f"output {at(place)} saw padding alone: nothing goes back"
        if where:
            index = number(float(indices[place]))
            said = f"output {at(place)} = {number(one.value)} was input {index}, counted row by row: "
            said += "it goes back there, all else is 0"
        frames.append(Frame(grids, said))
    return Scene("unpool", "Unpooling puts each maximum back where it was", tuple(frames))


def _zeros(array: Array) -> list[Place]:
    return [tuple(map(int, place)) for place in np.argwhere(array == 0)]
