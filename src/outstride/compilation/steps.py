"""Which of torch's operators are steps: what a kernel may do to a value before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isnan
from operator import getitem
from typing import Any

from torch.fx import Node

from outstride.compilation.values import (
    Operator,
    count_of,
    dtype_of,
    is_served,
    is_tensor,
    same_sizes,
    shape,
)
from outstride.compilation.vectors import InVectors
from outstride.engine.launch.fused import OperandForm, Step
from outstride.engine.launch.steps.check import declined


@dataclass(frozen=True)
class Reading:
    """An operator read as a step on one of its tensors, the others being operands of the step."""

    step: Step
    value: Node
    operands: tuple[Node, ...] = ()


_Read = Callable[[Operator, int], Iterator[Reading]]
"""Reads an operator as steps on tensors whose channels lie along an axis."""


def readings(node: Node, channels: int = 1) -> Iterator[Reading]:
    """The ways in which an operator is a step: an addition is one on either of its tensors.

    Args:
        node: the operator.
        channels: the axis along which vectors over the channels lie.
    """
    if node.op != "call_function" or not is_tensor(node) or not is_served(node):
        return
    if node.target is getitem:
        if channels == 1:
            yield from _first(node)
        return
    if isinstance(node.target, InVectors):
        yield from _filled(node, node.target)
        return
    operator = Operator.of(node)
    read = _READ.get(operator.name)
    if read is not None:
        yield from read(operator, channels)


def _filled(node: Node, target: InVectors) -> Iterator[Reading]:
    """An operator as torch's vectors do it: a step that has no other way."""
    operator = target.operator(node)
    read = _READ.get(operator.name)
    if read is not None:
        found = (reading for reading in read(operator, 1) if not reading.step.is_of_contiguous)
        yield from (replace(reading, step=replace(reading.step, filled=True)) for reading in found)


def _unary(kind: str, *numbers: tuple[str, Any]) -> _Read:
    """An operator on one tensor, with numbers by their names."""

    def read(operator: Operator, _: int) -> Iterator[Reading]:
        given = [operator.argument(name, default) for name, default in numbers]
        if all(number is None or _is_number(number) for number in given):
            found = tuple(None if number is None else float(number) for number in given)
            yield Reading(Step(kind, found), operator.args[0])

    return read


def _is_number(value: Any) -> bool:
    """Whether a kernel may have it as a constant: no symbol, and not NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not isnan(value)


def _power(operator: Operator, _: int) -> Iterator[Reading]:
    """A square, which torch computes as a product."""
    value, exponent = operator.args
    if isinstance(exponent, (int, float)) and exponent == 2:
        yield Reading(Step("square"), value)


def _clamp(low: bool, high: bool) -> _Read:
    def read(operator: Operator, _: int) -> Iterator[Reading]:
        ends = (operator.argument("min") if low else None, operator.argument("max") if high else None)
        if all(end is None or _is_number(end) for end in ends) and ends != (None, None):
            numbers = tuple(None if end is None else float(end) for end in ends)
            yield Reading(Step("hardtanh", numbers), operator.args[0])

    return read


def _gelu(operator: Operator, _: int) -> Iterator[Reading]:
    """The exact one, of a tensor of which torch takes the elements in their order in memory."""
    value = operator.args[0]
    if operator.argument("approximate", "none") == "none" and _is_contiguous(value):
        ways = [Step("gelu"), Step("gelu_by_series")]
        met = (step for step in ways if declined((step,), dtype_of(value), count_of(value)) is None)
        yield Reading(next(met, ways[0]), value)


def _elu(operator: Operator, _: int) -> Iterator[Reading]:
    yield from _of_numbers(operator, *(operator.argument(n, 1.0) for n in ("alpha", "scale", "input_scale")))


def _celu(operator: Operator, _: int) -> Iterator[Reading]:
    alpha = operator.argument("alpha", 1.0)
    if _is_number(alpha) and alpha:
        yield from _of_numbers(operator, alpha, 1.0, 1.0 / alpha)


def _selu(operator: Operator, _: int) -> Iterator[Reading]:
    yield from _of_numbers(operator, *_SELU)


def _of_numbers(operator: Operator, alpha: Any, scale: Any, input_scale: Any) -> Iterator[Reading]:
    """An ELU, whose exponential is one of numbers below zero."""
    if all(map(_is_number, (alpha, scale, input_scale))) and input_scale > 0:
        yield Reading(Step("elu", (alpha, scale, input_scale)), operator.args[0])


def _is_contiguous(node: Node) -> bool:
    """Whether a tensor is contiguous, whatever its symbols are."""
    value, expected = node.meta["val"], 1
    for size, stride in reversed(list(zip(value.shape, value.stride(), strict=True))):
        if not same_sizes((size,), (1,)) and not same_sizes((stride,), (expected,)):
            return False
        expected = expected * size
    return True


def _prelu(operator: Operator, channels: int) -> Iterator[Reading]:
    value, slope = operator.args
    if channels == 1 and _operand(slope, value, channels) == "channel":
        yield Reading(Step("prelu", (), ("channel",)), value, (_unviewed(slope),))


def _binary(kind: str, commutes: bool) -> _Read:
    """An operator on two tensors of one size, or a tensor and a vector of its channels, or a number."""

    def read(operator: Operator, channels: int) -> Iterator[Reading]:
        first, second = operator.args[:2]
        if operator.argument("alpha", 1) != 1 or operator.argument("rounding_mode") is not None:
            return
        for value, other in ((first, second), (second, first))[: 2 if commutes else 1]:
            if not is_tensor(value) or not same_sizes(shape(value), shape(operator.node)):
                continue
            if _is_number(other):
                yield Reading(Step(kind, (float(other),)), value)
            elif is_tensor(other) and value.meta["val"].dtype == other.meta["val"].dtype:
                operand = _operand(other, value, channels)
                if operand == "tensor" and value is not first and not lie_alike(value, operator.node):
                    continue
                if operand is not None and value is not other:
                    read_as = _unviewed(other) if operand == "channel" else other
                    yield Reading(Step(kind, (), (operand,)), value, (read_as,))

    return read


def _batch_norm(operator: Operator) -> Iterator[Reading]:
    """In evaluation: fixed statistics. The node is that of the first of its results."""
    value, weight, bias, mean, variance, _, eps = operator.args
    vectors = (mean, variance, weight, bias)
    forms: list[OperandForm | None] = [None if vector is None else "channel" for vector in vectors]
    given = tuple(vector for vector in vectors if vector is not None)
    if all(vector.meta["val"].dtype == value.meta["val"].dtype for vector in given):
        yield Reading(Step("batch_norm", (float(eps),), tuple(forms)), value, given)


def _first(node: Node) -> Iterator[Reading]:
    """The first result of an operator that has several, of which nothing else is used."""
    source, number = node.args
    assert isinstance(source, Node), "results are taken of an operator"
    if number == 0 and len(source.users) == 1 and source.op == "call_function":
        made = Operator.of(source)
        if made.name == "aten._native_batch_norm_legit_no_training":
            yield from _batch_norm(made)


def _operand(other: Node, value: Node, axis: int) -> OperandForm | None:
    """How a tensor stands beside a value: of its sizes, a vector of its channels, or not as either."""
    sizes, whole = shape(other), shape(value)
    if len(whole) < 2:
        return None
    if same_sizes(sizes, whole):
        return "tensor"
    wide = (*[1] * (len(whole) - len(sizes)), *sizes)
    channels = (*[1] * axis, whole[axis], *[1] * (len(whole) - axis - 1))
    return "channel" if same_sizes(wide, channels) and other.meta["val"].is_contiguous() else None


def lie_alike(value: Node, result: Node) -> bool:
    """Whether a result lies as one of the tensors that it is made of, which may be another one's way.

    The stride of a single element says nothing.
    """
    a, b = value.meta["val"], result.meta["val"]
    return all(
        same_sizes((size,), (1,)) or same_sizes((s,), (t,))
        for size, s, t in zip(a.shape, a.stride(), b.stride(), strict=True)
    )


def _unviewed(vector: Node) -> Node:
    """The tensor of which a vector of channels is a view of the same elements."""
    while vector.op == "call_function" and Operator.of(vector).name in _RESHAPES:
        source = vector.args[0]
        if not isinstance(source, Node) or not source.meta["val"].is_contiguous():
            break
        if dtype_of(source) != dtype_of(vector):
            break
        vector = source
    return vector


#: Alpha and scale of torch's SELU (Activation.cpp), and the scale of its input.
_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)
_RESHAPES = ("aten.view", "aten.reshape", "aten.unsqueeze", "aten._unsafe_view")
_READ: dict[str, _Read] = {
    "aten.relu": _unary("relu"),
    "aten.leaky_relu": _unary("leaky_relu", ("negative_slope", 0.01)),
    "aten.hardtanh": _unary("hardtanh", ("min_val", -1.0), ("max_val", 1.0)),
    "aten.clamp": _clamp(low=True, high=True),
    "aten.clamp_min": _clamp(low=True, high=False),
    "aten.clamp_max": _clamp(low=False, high=True),
    "aten.hardswish": _unary("hardswish"),
    "aten.silu": _unary("silu"),
    "aten.gelu": _gelu,
    "aten.elu": _elu,
    "aten.celu": _celu,
    "aten.selu": _selu,
    "aten.abs": _unary("abs"),
    "aten.neg": _unary("neg"),
    "aten.pow": _power,
    "aten.sigmoid": _unary("sigmoid"),
    "aten.hardsigmoid": _unary("hardsigmoid"),
    "aten._prelu_kernel": _prelu,
    "aten.add": _binary("add", commutes=True),
    "aten.mul": _binary("multiply", commutes=True),
    "aten.sub": _binary("subtract", commutes=False),
    "aten.div": _binary("divide", commutes=False),
}
