"""The views: a window that slides, stamps that add up, zeros in between, a matrix, a short algorithm.

Each shows the same numbers; the last frame of each holds the layer's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from outstride.explanation.example import Array, Example
from outstride.explanation.scene import Frame, Grid, Place, Role, Scene, number
from outstride.explanation.short import short

#: Products that a caption writes out.
_MOST_TERMS = 9
#: Rows and columns of a matrix that can be read.
_MOST_ROWS = 64


def views_of(example: Example, notes: Sequence[str] = ()) -> dict[str, Scene]:
    """Every view that a layer has, by name, with what is to be said of all of them."""
    made = [stamps(example), between_zeros(example)] if example.transposed else [window(example)]
    if max(example.x.size, result(example).size) <= _MOST_ROWS:
        made.append(matrix(example))
    fewer = short(example)
    if fewer is not None:
        made.append(fewer)
    return {scene.name: replace(scene, notes=tuple(notes)) for scene in made}


def result(example: Example) -> Array:
    """What the layer gives."""
    if example.transposed:
        top, left = example.low
        height, width = example.output
        cropped: Array = _stamped(example)[top : top + height, left : left + width] + example.bias
        return cropped
    made, padded = np.zeros(example.output), example.padded
    for place in np.ndindex(*example.output):
        made[place] = sum(a * b for a, b, _, _ in _terms(example, padded, example.weight, place))
    return made + example.bias


def _canvas(example: Example) -> tuple[int, int]:
    """The size of all that is stamped, and of what output_padding uncovers behind it."""
    sizes = zip(example.x.shape, example.stride, example.span, example.low, example.output, strict=True)
    height, width = (max((n - 1) * s + k, low + o) for n, s, k, low, o in sizes)
    return height, width


def _stamped(example: Example) -> Array:
    canvas = np.zeros(_canvas(example))
    for place in np.ndindex(*example.x.shape):
        _stamp(example, canvas, place)
    return canvas


def _stamp(example: Example, canvas: Array, place: Place) -> list[Place]:
    """Add the stamp of one input, and say where it lies."""
    stamped = []
    for i, j, row, column in example.taps():
        at = place[0] * example.stride[0] + row, place[1] * example.stride[1] + column
        canvas[at] += example.x[place] * example.weight[i, j]
        stamped.append(at)
    return stamped


def _terms(
    example: Example, source: Array, weight: Array, place: Place, stride: tuple[int, int] | None = None
) -> list[tuple[float, float, Place, Place]]:
    """Weight and number of every tap of an output, with where they stand."""
    sh, sw = example.stride if stride is None else stride
    found = []
    for i, j, row, column in example.taps():
        at = place[0] * sh + row, place[1] * sw + column
        found.append((float(weight[i, j]), float(source[at]), (i, j), at))
    return found


def _sum(terms: list[tuple[float, float, Place, Place]], bias: float) -> str:
    products = [f"{_factor(w)}·{_factor(v)}" for w, v, _, _ in terms]
    if len(products) > _MOST_TERMS:
        products = [*products[: _MOST_TERMS - 2], "…", products[-1]]
    return " + ".join([*products, _factor(bias)] if bias else products)


def _factor(value: float) -> str:
    text = number(value)
    return f"({text})" if text.startswith("-") else text


def _border(shape: tuple[int, ...], first: tuple[int, int], size: tuple[int, ...]) -> dict[Place, Role]:
    """The cells around an inner box."""
    inside = set(product(range(first[0], first[0] + size[0]), range(first[1], first[1] + size[1])))
    return {place: "border" for place in np.ndindex(*shape) if place not in inside}


def _sliding(
    example: Example, name: str, title: str, source: Grid, weight: Grid, stride: tuple[int, int]
) -> Scene:
    """A window over a source, output by output."""
    frames, made = [], np.full(example.output, np.nan)
    for place in np.ndindex(*example.output):
        terms = _terms(example, source.values, weight.values, place, stride)
        made[place] = sum(w * v for w, v, _, _ in terms) + example.bias
        active: dict[Place, Role] = {at: "active" for *_, at in terms}
        grids = (
            Grid(source.title, source.values, source.role, {**source.marks, **active}),
            weight,
            Grid("output", made.copy(), "output", {place: "result"}),
        )
        frames.append(
            Frame(
                grids, f"output {_at(example, place)} = {_sum(terms, example.bias)} = {number(made[place])}"
            )
        )
    return Scene(name, title, tuple(frames))


def _at(example: Example, place: Place) -> str:
    return str(place[1]) if example.spec.nd == 1 else f"({place[0]}, {place[1]})"


def window(example: Example) -> Scene:
    """Convolution: the kernel slides over the padded input."""
    padded = example.padded
    marks = _border(padded.shape, example.low, example.x.shape)
    source = Grid("input, padded" if marks else "input", padded, "input", marks)
    kernel = Grid("kernel", example.weight, "kernel")
    return _sliding(example, "window", "The kernel slides over the input", source, kernel, example.stride)


def stamps(example: Example) -> Scene:
    """Transposed convolution: each input stamps the kernel, times itself, and stamps add up."""
    canvas, frames = np.zeros(_canvas(example)), []
    outside = _border(canvas.shape, example.low, example.output)
    for place in np.ndindex(*example.x.shape):
        stamped: dict[Place, Role] = {**outside, **dict.fromkeys(_stamp(example, canvas, place), "active")}
        value = number(example.x[place])
        frames.append(
            Frame(
                (
                    Grid("input", example.x, "input", {place: "active"}),
                    Grid(f"{value} times the kernel", example.x[place] * example.weight, "kernel"),
                    Grid("stamps so far", canvas.copy(), "output", stamped),
                ),
                f"input {_at(example, place)} = {value} stamps at {_at(example, _first(example, place))}",
            )
        )
    grids = [Grid("input", example.x, "input"), Grid("kernel", example.weight, "kernel")]
    grids += [Grid("stamps added up", canvas, "output", outside)] if outside else []
    grids.append(Grid("output", result(example), "output"))
    said = ["the stamps added up"]
    said += ["the padding crops what lies outside of the output"] if outside else []
    said += [f"the bias {number(example.bias)} is added"] if example.bias else []
    frames.append(Frame(tuple(grids), "; ".join(said)))
    return Scene("stamps", "Each input stamps the kernel", tuple(frames))


def _first(example: Example, place: Place) -> Place:
    """Where the stamp of an input begins on the output."""
    row, column = (p * s - low for p, s, low in zip(place, example.stride, example.low, strict=True))
    return row, column


def between_zeros(example: Example) -> Scene:
    """Transposed convolution: an ordinary one over the input with zeros between, the kernel turned round."""
    spread = [(n - 1) * s + 1 for n, s in zip(example.x.shape, example.stride, strict=True)]
    before = [k - 1 - low for k, low in zip(example.span, example.low, strict=True)]
    first = [max(b, 0) for b in before]
    cut = [max(-b, 0) for b in before]
    needed = [o + k - 1 for o, k in zip(example.output, example.span, strict=True)]
    size = [max(n, b + s) for n, b, s in zip(needed, first, spread, strict=True)]
    wide = np.zeros([n + c for n, c in zip(size, cut, strict=True)])
    marks: dict[Place, Role] = dict.fromkeys(np.ndindex(*wide.shape), "border")
    for place in np.ndindex(*example.x.shape):
        at = first[0] + place[0] * example.stride[0], first[1] + place[1] * example.stride[1]
        wide[at] = example.x[place]
        del marks[at]
    shown = wide[cut[0] : cut[0] + needed[0], cut[1] : cut[1] + needed[1]]
    moved: dict[Place, Role] = {
        (i - cut[0], j - cut[1]): role for (i, j), role in marks.items() if i >= cut[0] and j >= cut[1]
    }
    source = Grid("input, zeros between and around", shown, "input", moved)
    kernel = Grid("kernel, turned round", example.weight[::-1, ::-1], "kernel")
    return _sliding(example, "zeros", "A convolution over zeros in between", source, kernel, (1, 1))


def matrix(example: Example) -> Scene:
    """A matrix times the input as a column, row by row."""
    columns = [np.zeros(example.x.shape) for _ in range(example.x.size)]
    for place, column in zip(np.ndindex(*example.x.shape), columns, strict=True):
        column[place] = 1
    weights = np.stack([result(replace(example, x=column, bias=0.0)).ravel() for column in columns], 1)
    x, made, frames = example.x.reshape(-1, 1), np.full((weights.shape[0], 1), np.nan), []
    marks: dict[Place, Role] = dict.fromkeys(
        ((int(i), int(j)) for i, j in np.argwhere(weights == 0)), "border"
    )
    for row in range(weights.shape[0]):
        made[row] = weights[row] @ x[:, 0] + example.bias
        used = [j for j in range(weights.shape[1]) if weights[row, j]]
        terms = [(float(weights[row, j]), float(x[j, 0]), (row, j), (j, 0)) for j in used]
        active: dict[Place, Role] = {(row, j): "active" for j in used}
        read: dict[Place, Role] = {(j, 0): "active" for j in used}
        grids = (
            Grid("matrix", weights, "kernel", {**marks, **active}),
            Grid("input", x, "input", read),
            Grid("output", made.copy(), "output", {(row, 0): "result"}),
        )
        said = _sum(terms, example.bias) if terms or example.bias else "nothing"
        frames.append(Frame(grids, f"row {row}: {said} = {number(float(made[row, 0]))}"))
    turned = ", that of the convolution turned over" if example.transposed else ""
    return Scene("matrix", f"A sparse matrix{turned}", tuple(frames))
