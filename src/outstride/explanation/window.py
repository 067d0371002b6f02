"""A window that slides over its input, output by output: convolutions, and transposed ones among zeros."""

from __future__ import annotations

import numpy as np

from outstride.explanation.arithmetic import pooled, shortened, terms, written
from outstride.explanation.example import Example, Place
from outstride.explanation.scene import Frame, Scene, number
from outstride.explanation.sheets import Sheet, at, border


def window(example: Example) -> Scene:
    """Convolution: the kernel slides over the padded input."""
    source = padded_input(example)
    kernel = Sheet("kernel", example.weight, "kernel")
    return _sliding(
        example, "window", "The kernel slides over the input", source, kernel, example.spec.stride
    )


def padded_input(example: Example, title: str = "input") -> Sheet:
    """The input, and grey around it what padding holds."""
    padded = example.padded
    marks = border(padded.shape, example.low, example.x.shape)
    return Sheet(f"{title}, padded" if marks else title, padded, "input", marks)


def between_zeros(example: Example) -> Scene:
    """Transposed convolution: an ordinary one over the input with zeros between, the kernel turned round."""
    spec = example.spec
    spread = [(n - 1) * s + 1 for n, s in zip(example.x.shape, spec.stride, strict=True)]
    before = [k - 1 - low for k, low in zip(spec.window, example.low, strict=True)]
    first = [max(b, 0) for b in before]
    needed = [o + k - 1 for o, k in zip(example.output, spec.window, strict=True)]
    cut = [max(-b, 0) for b in before]
    size = [max(n, b + s) for n, b, s in zip(needed, first, spread, strict=True)]
    wide = np.zeros([n + c for n, c in zip(size, cut, strict=True)])
    inner = tuple(
        slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(first, example.x.shape, spec.stride, strict=True)
    )
    wide[inner] = example.x
    is_input = np.zeros(wide.shape, bool)
    is_input[inner] = True
    part = tuple(slice(c, c + n) for c, n in zip(cut, needed, strict=True))
    zeros = (tuple(map(int, place)) for place in np.argwhere(~is_input[part]))
    between = any(s > 1 and n > 1 for s, n in zip(spec.stride, example.x.shape, strict=True))
    around = any(first) or any(n > f + s for n, f, s in zip(needed, first, spread, strict=True))
    places = " and ".join(["between"] * between + ["around"] * around)
    title = f"input, zeros {places}" if places else "input"
    source = Sheet(title, wide[part], "input").marked(zeros, "border")
    turned = example.weight[(slice(None, None, -1),) * spec.nd]
    kernel = Sheet("kernel, turned round", turned, "kernel")
    return _sliding(example, "zeros", "A convolution over zeros in between", source, kernel, (1,) * spec.nd)


def _sliding(example: Example, name: str, title: str, source: Sheet, kernel: Sheet, stride: Place) -> Scene:
    frames, made = [], np.full(example.output, np.nan)
    for place in np.ndindex(*example.output):
        products = terms(example, source.values, kernel.values, place, stride)
        made[place] = sum(t.weight * t.value for t in products) + example.bias
        output = Sheet("output", made.copy(), "output", {place: "result"})
        shown = source.marked((t.at for t in products), "active")
        grids = (*shown.grids(), *kernel.grids(), *output.grids())
        said = written(products, example.bias)
        frames.append(Frame(grids, f"output {at(place)} = {said} = {number(float(made[place]))}"))
    return Scene(name, title, tuple(frames))


def pooling_window(example: Example) -> Scene:
    """Pooling: a window without weights, of which the largest number or the average is taken."""
    largest = example.spec.kind == "max_pool"
    source = padded_input(example)
    frames, made = [], np.full(example.output, np.nan)
    for place in np.ndindex(*example.output):
        found = pooled(example, place)
        made[place] = found.value
        shown = source.marked(_under(example, place), "active")
        if found.winner is not None:
            won = tuple(w + low for w, low in zip(found.winner, example.low, strict=True))
            shown = shown.marked([won], "result")
        output = Sheet("output", made.copy(), "output", {place: "result"})
        how = f"{_pooled(example, place)} = " if found.reads else ""
        caption = f"output {at(place)} = {how}{number(found.value)}"
        frames.append(Frame((*shown.grids(), *output.grids()), caption))
    name = "The largest number under the window" if largest else "The average of what is under the window"
    notes: tuple[str, ...] = ()
    if np.isnan(example.padded).any():
        notes = (
            "Grey cells are minus infinity: they never win." if largest else "Empty cells do not count.",
        )
    return Scene("window", name, tuple(frames), notes)


def _under(example: Example, place: Place) -> list[Place]:
    """The cells of the padded input that a window lies on."""
    none = np.zeros(example.spec.kernel_size)
    return [t.at for t in terms(example, example.padded, none, place)]


def _pooled(example: Example, place: Place) -> str:
    """How an output is found, in numbers."""
    spec, found = example.spec, pooled(example, place)
    if spec.kind == "max_pool":
        values = [number(float(example.x[at])) for at in found.reads]
        return f"max({', '.join(shortened(values))})"
    padded, counts_padding = example.padded, spec.count_include_pad and not spec.divisor_override
    seen = (float(padded[at]) for at in _under(example, place))
    values = [number(value) for value in seen if not np.isnan(value)]
    if not counts_padding and len(values) == 1:
        return f"{values[0]} / {found.divisor}"
    return f"({' + '.join(shortened(values))}) / {found.divisor}"
