"""A layer as a matrix: each output is a row, each input a column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from outstride.explanation.arithmetic import Term, pooled, result, written
from outstride.explanation.example import Array, Example, Place
from outstride.explanation.scene import Frame, Scene, number
from outstride.explanation.sheets import Sheet

#: Rows and columns of a matrix that can be read.
MOST_ROWS = 64


def matrix(example: Example) -> Scene:
    """A matrix times the input, row by row; the input stands above the columns that it is multiplied with."""
    weights = _weights(example)
    x, outputs = example.x.reshape(1, -1), result(example).ravel()
    made, frames = np.full((weights.shape[0], 1), np.nan), []
    zeros = [(int(i), int(j)) for i, j in np.argwhere(weights == 0)]
    whole = Sheet("matrix", weights, "kernel").marked(zeros, "border")
    for row in range(weights.shape[0]):
        made[row] = outputs[row]
        used = [j for j in range(weights.shape[1]) if weights[row, j]]
        products = [Term(float(weights[row, j]), float(x[0, j]), (row, j), (0, j)) for j in used]
        grids = (
            *Sheet("input", x, "input").marked((t.at for t in products), "active").grids(),
            *whole.marked((t.tap for t in products), "active").grids(1),
            *Sheet("output", made.copy(), "output", {(row, 0): "result"}).grids(1),
        )
        said = written(products, example.bias) if products or example.bias else "nothing"
        frames.append(Frame(grids, f"row {row}: {said} = {number(float(made[row, 0]))}"))
    return Scene("matrix", _title(example), tuple(frames))


def _title(example: Example) -> str:
    if example.spec.kind == "max_pool":
        return "A sparse matrix, which the input chooses"
    return f"A sparse matrix{', that of the convolution turned over' if example.transposed else ''}"


def _weights(example: Example) -> Array:
    """Row by row what each output takes of each input."""
    if example.spec.is_pool:
        made = np.zeros((*example.output, *example.x.shape))
        for place in np.ndindex(*example.output):
            found = pooled(example, place)
            read: tuple[Place, ...] = found.reads if found.winner is None else (found.winner,)
            for at in read:
                entry = (*place, *at)
                made[entry] = 1 / found.divisor
        return made.reshape(-1, example.x.size)
    columns = [np.zeros(example.x.shape) for _ in range(example.x.size)]
    for place, column in zip(np.ndindex(*example.x.shape), columns, strict=True):
        column[place] = 1
    return np.stack([result(replace(example, x=column, bias=0.0)).ravel() for column in columns], 1)
