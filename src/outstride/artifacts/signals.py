"""Any model on a signal that repeats for ever: its own ``forward`` is run on one period.

Layers and functions that look at neighbours follow the rules of ``periodic``; what works element by element
is done as it is, after tensors of different periods have been brought to one. Everything else is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from outstride.artifacts import periodic
from outstride.errors import UnsupportedError
from outstride.models.operators import padding
from outstride.models.operators.describing import axis_of, layer_of

Pace = tuple[Fraction, ...]
"""Elements of the input from one element to the next, per axis."""


@dataclass
class Course:
    """What a run has shown: whether some layer enlarges, and the paces that tensors had."""

    linear: bool
    enlarges: bool = False
    paces: set[Pace] = field(default_factory=set)

    @property
    def period(self) -> tuple[int, ...]:
        """Elements of the input after which every tensor starts anew."""
        return tuple(math.lcm(*(pace.numerator for pace in axis)) for axis in zip(*self.paces, strict=True))


class Signal(Tensor):
    """One period of (N, C, *size) float64 values; every function of torch that meets one comes here first."""

    course: Course
    pace: Pace
    bare: Tensor
    """The same values as a plain tensor."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        named = dict(kwargs or {})
        name, found = _name(func), list(_signals((args, named)))
        if not found or name in _FACTS:
            return func(*_plain(args), **_plain(named))
        first, alone = found[0], len(found) == 1
        layer = layer_of(func, _plain(args), _plain(named))
        if layer is not None:
            return follow(layer, first)
        if func in padding.FUNCTIONS:
            amounts = padding.FUNCTIONS[func].arguments(args, named)["pad"]
            return _like(first, periodic.rolled(first.bare, amounts))
        if name == "getitem":
            return _like(first, _part(first.bare, args[1]))
        if name in ("group_norm", "instance_norm"):
            periodic.refuse_if(first.course.linear, name)
            return _like(first, func(periodic.several(first.bare), *_plain(args[1:]), **_plain(named)))
        if name in _SAME:
            return first
        if name in _SUMS and alone and first.course.linear:
            return _like(first, -first.bare if _is_taken_off(name, args) else first.bare)
        if name in _POINTS or (name in _PRODUCTS and not _is_linear(name, args, alone)):
            periodic.refuse_if(first.course.linear, name)
        elif name not in (*_SUMS, *_PRODUCTS) and axis_of(func, args, named) is None:
            raise _unknown("a look at the size of a tensor" if name in ("shape", "size") else f"{name}()")
        return _elementwise(func, name, first, args, named)


def run(model: nn.Module, period: Tensor, linear: bool) -> tuple[Tensor, Course]:
    """Return one period of a model's output for one of its input, and what was seen on the way.

    ``period`` is (N, C, *period) in float64. With ``linear`` biases are left out and what is not linear is
    refused. The output's period starts at output 0 where the input's starts at input 0.
    """
    twin = prepared(model)
    course = Course(linear)
    start: Pace = (Fraction(1),) * (period.dim() - 2)
    course.paces.add(start)
    out = twin(_signal(period, course, start))
    if not isinstance(out, Signal):
        raise _unknown(f"a {type(out).__name__} as the output")
    return out.bare, course


def prepared(model: nn.Module) -> nn.Module:
    """A copy in float64 whose layers follow the rules."""
    twin = copy.deepcopy(model).double()
    for part in twin.modules():
        # A class of somebody else may do more than the layer that it derives from: its functions are seen.
        torchs = type(part).__module__.startswith(("torch.nn.", "outstride."))
        if torchs and (periodic.rule_of(part) is not None or _is_leaf(part)):
            part.forward = partial(follow, part)
    return twin


def _is_leaf(part: nn.Module) -> bool:
    return not isinstance(part, nn.Sequential) and not any(True for _ in part.children())


def follow(layer: nn.Module, signal: Signal, *others: Any, **more: Any) -> Signal:
    """What a layer makes of a signal, by its rule."""
    rule = periodic.rule_of(layer)
    if rule is None or others or more:
        raise _unknown(type(layer).__name__)
    made = rule(layer, signal.bare, signal.course.linear)
    pace = tuple(a * b for a, b in zip(signal.pace, periodic.steps(layer, len(signal.pace)), strict=True))
    signal.course.enlarges |= any(b < a for a, b in zip(signal.pace, pace, strict=True))
    return _signal(made, signal.course, pace)


def _signal(values: Tensor, course: Course, pace: Pace) -> Signal:
    made = values.as_subclass(Signal)
    made.course, made.pace, made.bare = course, pace, values
    course.paces.add(pace)
    return made


def _like(signal: Signal, values: Any) -> Any:
    if isinstance(values, (tuple, list)):
        return type(values)(_like(signal, value) for value in values)
    return _signal(values, signal.course, signal.pace)


def _plain(value: Any) -> Any:
    if isinstance(value, Signal):
        return value.bare
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value


def _signals(value: Any) -> Any:
    if isinstance(value, Signal):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _signals(entry)


def _name(func: Any) -> str:
    """relu for torch.relu, Tensor.relu_ and F.relu; the property's for a property."""
    name = str(getattr(func, "__name__", func))
    return str(func.__self__.__name__) if name == "__get__" else name.strip("_")


def _is_taken_off(name: str, args: tuple[Any, ...]) -> bool:
    """Whether the only signal of a sum stands behind a minus."""
    return name in ("rsub", "neg", "negative") or (
        name in ("sub", "subtract") and not isinstance(args[0], Signal)
    )


def _is_linear(name: str, args: tuple[Any, ...], alone: bool) -> bool:
    """Whether only one factor of a product is a signal, and of a quotient only what is divided."""
    return alone and ("mul" in name or isinstance(args[0], Signal))


def _elementwise(
    func: Callable[..., Any], name: str, first: Signal, args: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """Bring all signals to one period and compute."""
    if axis_of(func, args, named) not in (None, 1, 1 - first.bare.dim()):
        raise _unknown(f"{name}() along another axis than the channels'")
    shapes = [signal.bare.shape[2:] for signal in _signals((args, named))]
    common = tuple(math.lcm(*sides) for sides in zip(*shapes, strict=True))

    def grown(value: Any) -> Any:
        if isinstance(value, Signal):
            times = [c // p for c, p in zip(common, value.bare.shape[2:], strict=True)]
            return value.bare if set(times) <= {1} else value.bare.repeat(1, 1, *times)
        if isinstance(value, Tensor) and math.prod(value.shape[max(value.dim() - len(common), 0) :]) > 1:
            raise _unknown(f"{name}() with a tensor that differs from place to place")
        return type(value)(map(grown, value)) if type(value) in (tuple, list) else value

    return _like(first, func(*grown(args), **{key: grown(value) for key, value in named.items()}))


def _part(values: Tensor, index: Any) -> Tensor:
    """Some channels, or what is left of a crop: far from the borders that only moves the origin."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (values.dim() - len(entries) + 1)
    for axis, entry in enumerate(entries):
        if not isinstance(entry, slice) or entry.step not in (None, 1):
            raise _unknown("an index that is no slice")
        start = entry.start or 0
        if axis > 1 and start < 0:
            raise _unknown("a slice counted from the high side")
        values = torch.roll(values, -start, axis) if axis > 1 else values
    return values[tuple(entries[:2])]


def _unknown(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"'layer' must be made of layers whose response to a repeating signal is known: got {what}; "
        f"legal: {periodic.SERVED}, sums, concatenations, and with 'input' functions of single elements too"
    )


_FACTS = {"dim", "ndim", "dtype", "device", "requires_grad", "is_floating_point", "layout", "is_cuda"}
_SAME = {
    *("contiguous", "clone", "to", "float", "double", "type", "identity"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
}
_SUMS = {"add", "radd", "iadd", "sub", "rsub", "isub", "subtract", "neg", "negative"}
"""Linear in all their terms together; a constant that is added is a bias."""
_PRODUCTS = {"mul", "rmul", "imul", "multiply", "div", "truediv", "itruediv", "divide", "true_divide"}
_POINTS = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "logsigmoid", "softsign", "clamp", "clip"),
    *("abs", "exp", "log", "sqrt", "rsqrt", "square", "pow", "sin", "cos", "maximum", "minimum", "rtruediv"),
}
