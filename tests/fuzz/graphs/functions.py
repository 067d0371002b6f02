"""Calls of functions: arithmetic of values, numbers and parameters, joining, cutting, views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.fuzz.graphs.builder import Builder
from tests.fuzz.graphs.layers import may_write
from tests.fuzz.graphs.program import Call

_NUMBERS = (2, 3, 0.5, -1.5, 1, 1.0, 0.1, 7, -2, 1e-3, 0.0, -0.0, 1e30, 1 / 3)
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}  # fmt: skip
_IN_PLACE: dict[str, Callable[..., Any]] = {
    "add_": lambda a, b: a.add_(b), "sub_": lambda a, b: a.sub_(b), "mul_": lambda a, b: a.mul_(b),
    "div_": lambda a, b: a.div_(b),
}  # fmt: skip


def _is_real(value: Tensor) -> bool:
    return value.is_floating_point()


def of_two(b: Builder) -> Call | None:
    """Two values, of one size or of sizes that torch stretches; added more often than not."""
    first, dice = b.pick(_is_real), b.dice
    if first is None:
        return None
    shape = b.values[first].shape
    same = [n for n, value in enumerate(b.values) if value.shape == shape]
    second = dice.one(same) if dice.chance(0.8) else dice.upto(0, len(b.values) - 1)
    pair = (first, second) if dice.chance(0.5) else (second, first)
    if dice.chance(0.1) and may_write(b, first):
        name = dice.one(tuple(_IN_PLACE))
        write = _IN_PLACE[name]
        return Call(name, lambda _, u, v: write(u, v), (first, second))
    if dice.chance(0.1):
        alpha = dice.one((1, 2, -0.5))
        return Call(f"add alpha={alpha}", lambda _, u, v: torch.add(u, v, alpha=alpha), pair)
    if dice.chance(0.1):
        return Call("maximum", lambda _, u, v: torch.maximum(u, v), pair)
    name = dice.one(("add", "add", "add", *_ARITHMETIC))
    compute = _ARITHMETIC[name]
    return Call(name, lambda _, u, v: compute(u, v), pair)


def with_number(b: Builder) -> Call | None:
    """A value and a number, on either side."""
    place, dice = b.pick(_is_real), b.dice
    if place is None:
        return None
    number = dice.one(_NUMBERS)
    if dice.chance(0.15) and may_write(b, place):
        name = dice.one(tuple(_IN_PLACE))
        write = _IN_PLACE[name]
        return Call(f"{name} {number!r}", lambda _, v: write(v, number), (place,))
    name = dice.one(tuple(_ARITHMETIC))
    compute = _ARITHMETIC[name]
    if dice.chance(0.3):
        return Call(f"{number!r} {name}", lambda _, v: compute(number, v), (place,))
    return Call(f"{name} {number!r}", lambda _, v: compute(v, number), (place,))


def with_parameter(b: Builder) -> Call | None:
    """A value and a parameter: over channels, over positions, of one number, or of all of these."""
    place, dice = b.pick(lambda v: _is_real(v) and v.dim() > 1), b.dice
    if place is None:
        return None
    value = b.values[place]
    ones = [1] * (value.dim() - 2)
    channels = value.shape[1]
    shape = dice.one((
        (channels, *ones), (1, channels, *ones), (channels, *ones), (), (1,), tuple(value.shape),
        tuple(value.shape[1:]), (value.shape[0], *[1] * (value.dim() - 1)), tuple(value.shape[-1:]),
        (value.shape[0], channels, *ones),
    ))  # fmt: skip
    numbers = torch.from_numpy(dice.rng.uniform(-1.5, 1.5, shape)).to(value.dtype)
    if dice.chance(0.1):
        numbers = numbers.to(dice.one((torch.float32, torch.float64, torch.bfloat16)))
    find, name = b.model.tensor(numbers), dice.one(tuple(_ARITHMETIC))
    compute = _ARITHMETIC[name]
    vector = len(shape) == 1 + len(ones) and bool(ones) and dice.chance(0.5)
    text = f"{name} {'viewed ' if vector else ''}parameter {numbers.dtype} {tuple(shape)}"
    if vector:  # a vector that is a view of the parameter
        flat = b.model.tensor(numbers.reshape(-1).clone())
        return Call(text, lambda m, v: compute(v, flat(m).view(-1, *ones)), (place,))
    if dice.chance(0.3):
        return Call(f"parameter first {text}", lambda m, v: compute(find(m), v), (place,))
    return Call(text, lambda m, v: compute(v, find(m)), (place,))


def alone(b: Builder) -> Call | None:
    """A function of one value."""
    place, dice = b.pick(_is_real), b.dice
    if place is None:
        return None
    low, high = dice.one(((0, 6), (-0.5, None), (None, 0.5), (0.0, None), (-0.0, None), (1.0, -1.0)))
    functions: dict[str, Callable[..., Any]] = {
        "abs": torch.abs, "neg": torch.neg, "square": torch.square, f"clamp {low!r} {high!r}":
        lambda v: torch.clamp(v, low, high), "exp": torch.exp, "sin": torch.sin, "clone": torch.clone,
        "power": lambda v: v**2, "self sum": lambda v: v + v, "self product": lambda v: v * v,
        "root": lambda v: torch.sqrt(v.abs()), "relu": torch.relu, "detach": lambda v: v.detach(),
        "where": lambda v: torch.where(v > 0, v, v * 0.5), "snake": lambda v: v + torch.sin(v * 2) ** 2,
        "gate": lambda v: v * torch.sigmoid(v), "float and back": lambda v: v.to(torch.float64).to(v.dtype),
        "bits": lambda v: v.view(torch.int32).view(torch.float32) if v.dtype == torch.float32 else v,
        "bits cleared": lambda v: v.view(torch.int32).bitwise_and(-65536).view(torch.float32),
        "bytes": lambda v: (v.abs() * 50).nan_to_num(0).clamp(0, 255).to(torch.uint8) / 255, "narrow":
        lambda v: v.to(torch.bfloat16), "plain": lambda v: v.float(),
        "mean": lambda v: v.mean((-1,), keepdim=True), "sum": lambda v: v.sum(),
        "squeeze and excite": lambda v: v * torch.sigmoid(v.mean((-1,), keepdim=True)),
    }  # fmt: skip
    name = dice.one(tuple(functions))
    function = functions[name]
    return Call(name, lambda _, v: function(v), (place,))


def join(b: Builder) -> Call | None:
    """Values one behind the other, along channels or another axis; one may come twice."""
    place, dice = b.pick(lambda v: v.dim() > 0), b.dice
    if place is None:
        return None
    value = b.values[place]
    axis = min(1, value.dim() - 1) if dice.chance(0.75) else dice.upto(0, value.dim() - 1)

    def fits(other: Tensor) -> bool:
        return other.dim() == value.dim() and all(
            a == c for n, (a, c) in enumerate(zip(other.shape, value.shape, strict=True)) if n != axis
        )

    found = [n for n, other in enumerate(b.values) if fits(other)]
    parts = [place, *(dice.one(found) for _ in range(dice.one((1, 1, 1, 2, 3))))]
    if dice.chance(0.5):
        parts.reverse()
    if dice.chance(0.7) and len(set(found)) > 1:
        parts = list(dict.fromkeys(parts))
    written = axis if dice.chance(0.7) else axis - value.dim()
    if dice.chance(0.08):
        return Call(f"stack {axis}", lambda _, *v: torch.stack(v, axis).flatten(axis, axis + 1), tuple(parts))
    return Call(f"cat {written}", lambda _, *v: torch.cat(v, written), tuple(parts))


def cut(b: Builder) -> Call | None:
    """Parts of a value."""
    place, dice = b.pick(lambda v: v.dim() > 1), b.dice
    if place is None:
        return None
    value = b.values[place]
    axis = 1 if dice.chance(0.7) else dice.upto(0, value.dim() - 1)
    size = value.shape[axis]
    kind = dice.one(("chunk", "chunk", "split", "slice", "slice", "step", "select"))
    if kind == "chunk" and size >= 2:
        return Call(f"chunk 2, {axis}", lambda _, v: torch.chunk(v, 2, axis), (place,), 2)
    if kind == "split" and size >= 2:
        first = dice.upto(0, size)
        return Call(
            f"split {first}, {axis}", lambda _, v: torch.split(v, [first, size - first], axis), (place,), 2
        )
    if kind == "step":
        return Call("every second", lambda _, v: v[..., ::2], (place,))
    if kind == "select" and value.dim() > 3:
        return Call("select", lambda _, v: v.select(axis, 0), (place,))
    start = dice.upto(0, size // 2)
    return Call(f"slice {start} of {axis}", lambda _, v: v.narrow(axis, start, size - start), (place,))


def view(b: Builder) -> Call | None:
    """The same numbers in other sizes or another order."""
    place, dice = b.pick(lambda v: v.dim() > 1), b.dice
    if place is None:
        return None
    value = b.values[place]
    dims, shape = value.dim(), tuple(value.shape)
    order = tuple(int(n) for n in dice.rng.permutation(dims))
    last = (0, *range(2, dims), 1)
    halves = (shape[0], 2, shape[1] // 2, *shape[2:])

    def shuffled(v: Any) -> Any:
        return v.reshape(halves).transpose(1, 2).reshape(shape)

    functions: dict[str, Callable[..., Any]] = {
        "flatten": lambda v: v.flatten(2), "flatten all": lambda v: v.flatten(1), f"permute {order}":
        lambda v: v.permute(order), "transpose": lambda v: v.transpose(-1, -2), "channels behind":
        lambda v: v.permute(last), "shuffle channels": shuffled,
        "batch in channels": lambda v: v.reshape(1, -1, *shape[2:]), "channels in batch":
        lambda v: v.reshape(-1, 1, *shape[2:]), "there and back": lambda v: v.flatten(1).view(shape),
        "unsqueeze": lambda v: v.unsqueeze(2), "squeeze": lambda v: v.squeeze(), "contiguous":
        lambda v: v.contiguous(), "channels last": lambda v: v.contiguous(memory_format=torch.channels_last),
        "flip": lambda v: v.flip(-1), "roll": lambda v: v.roll(1, -1), "expand":
        lambda v: v.expand(2 * v.shape[0] if v.shape[0] == 1 else v.shape[0], *v.shape[1:]),
        "pad": lambda v: F.pad(v, (1, 2)), "crop": lambda v: F.pad(v, (-1, 0)), "channels padded":
        lambda v: F.pad(v, (0, 0) * (dims - 2) + (0, 1)), "nothing left": lambda v: v[..., :0],
    }  # fmt: skip
    name = dice.one(tuple(functions)[: None if dice.chance(0.1) else -1])
    function = functions[name]
    return Call(name, lambda _, v: function(v), (place,))


__all__ = ["alone", "cut", "join", "of_two", "view", "with_number", "with_parameter"]
