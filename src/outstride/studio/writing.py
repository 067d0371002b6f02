"""The same layer as others write it: PyTorch, Keras, loops over NumPy arrays, ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outstride.geometry import Solution, output_size, resolve
from outstride.geometry.solver.questions import questions_of
from outstride.layer.spec import ConvSpec

_LETTERS = ("z", "y", "x")


@dataclass(frozen=True)
class Writing:
    """A layer in one language, with a word on what has to stand beside it."""

    name: str
    text: str
    note: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"name": self.name, "text": self.text, "note": self.note}


def as_solution(spec: ConvSpec, size: tuple[int, ...]) -> Solution:
    """The layer as an answer to the question for its own sizes, which knows its merits and its spellings."""
    questions = questions_of(spec.kind, size, output_size(spec, size), None, None)
    return Solution(resolve(spec, size), questions)


def writings(spec: ConvSpec, size: tuple[int, ...]) -> list[Writing]:
    """The layer in every language that is known, for an input of that size."""
    found = as_solution(spec, size).frameworks
    torch, keras, onnx = (found[name] for name in ("torch", "keras", "onnx"))
    asymmetric = not torch.layers
    made = f"outstride.nn.{spec!r}" if asymmetric else f"torch.nn.{spec!r}"
    return [
        Writing(
            "PyTorch", made if len(torch.layers) < 2 else _chained("torch.nn.", torch.layers), torch.reason
        ),
        Writing("Keras", _chained("keras.layers.", keras.layers), keras.reason),
        Writing("NumPy", loops(spec, size), "the definition in plain loops, one channel"),
        Writing("ONNX", "\n".join(onnx.layers), onnx.reason),
    ]


def _chained(room: str, layers: tuple[str, ...]) -> str:
    return "\n".join(f"{room}{layer}" for layer in layers)


def loops(spec: ConvSpec, size: tuple[int, ...]) -> str:
    """A function of NumPy arrays, one channel: what the layer does, with its numbers written out."""
    letters = _LETTERS[3 - spec.nd :]
    numbers, out = resolve(spec, size), output_size(spec, size)
    assert numbers.padding != "same"
    lows = [low for low, _ in numbers.padding]
    rows = list(zip(letters, spec.stride, spec.dilation, lows, strict=True))
    at = ", ".join(f"o{a}" for a in letters)
    taps = ", ".join(f"k{a}" for a in letters)
    reads = ", ".join(_position(f"o{a}", s, f"k{a}", d, low) for a, s, d, low in rows)
    sizes, kernel = ", ".join(map(str, out)), ", ".join(map(str, spec.kernel_size))
    comma = "," if spec.nd == 1 else ""
    if spec.kind == "conv_transpose":
        writes = ", ".join(_position(f"i{a}", s, f"k{a}", d, low) for a, s, d, low in rows)
        places = ", ".join(f"i{a}" for a in letters)
        return (
            "def layer(x, weight, bias=0.0):\n"
            f"    y = np.full(({sizes}{comma}), bias)\n"
            f"    for {places}{comma} in np.ndindex(*x.shape):\n"
            f"        for {taps}{comma} in np.ndindex({kernel}):\n"
            f"            o = {writes}{comma}\n"
            "            if all(0 <= p < n for p, n in zip(o, y.shape)):\n"
            f"                y[o] += x[{places}] * weight[{taps}]\n"
            "    return y"
        )
    head = "def layer(x):\n" if spec.is_pool else "def layer(x, weight, bias=0.0):\n"
    mode = {"zeros": "", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[spec.padding_mode]
    padded = ""
    if mode:
        padded = f"    x = np.pad(x, {numbers.padding}, mode={mode!r})\n"
        rows = [(a, s, d, 0) for a, s, d, _ in rows]
        reads = ", ".join(_position(f"o{a}", s, f"k{a}", d, 0) for a, s, d, _ in rows)
    loop = (
        f"    for {at}{comma} in np.ndindex(*y.shape):\n"
        f"        for {taps}{comma} in np.ndindex({kernel}):\n"
        f"            i = {reads}{comma}\n"
        "            if all(0 <= p < n for p, n in zip(i, x.shape)):\n"
    )
    if spec.kind == "max_pool":
        start = f"    y = np.full(({sizes}{comma}), -np.inf)\n"
        return f"{head}{start}{loop}                y[{at}] = max(y[{at}], x[i])\n    return y"
    start = f"    y = np.full(({sizes}{comma}), {'0.0' if spec.is_pool else 'bias'})\n"
    if spec.kind == "avg_pool":
        return f"{head}{start}{_averaged(spec, loop, at)}"
    return f"{head}{padded}{start}{loop}                y[{at}] += x[i] * weight[{taps}]\n    return y"


def _averaged(spec: ConvSpec, loop: str, at: str) -> str:
    """Sums that are divided by what torch divides them by."""
    if spec.divisor_override:
        return f"{loop}                y[{at}] += x[i] / {spec.divisor_override}\n    return y"
    if spec.count_include_pad and not spec.ceil_mode:
        count = 1
        for k in spec.kernel_size:
            count *= k
        return f"{loop}                y[{at}] += x[i] / {count}\n    return y"
    counted = f"    n = np.zeros_like(y)\n{loop}                y[{at}] += x[i]\n"
    return f"{counted}                n[{at}] += 1\n    return y / n"


def _position(at: str, stride: int, tap: str, dilation: int, low: int) -> str:
    first = at if stride == 1 else f"{stride} * {at}"
    second = tap if dilation == 1 else f"{dilation} * {tap}"
    return f"{first} + {second}" + (f" - {low}" if low else "")
