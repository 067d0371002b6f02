"""Checked calls: arguments and shapes brought to numbers once, and found again by identity and shape."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from outstride.engine.dispatch.call import Arguments, check
from outstride.engine.dispatch.function import CheckedCall, ConvFunction
from outstride.engine.torch_internals import untraced


def checked_call(
    function: ConvFunction,
    input: Any,
    weight: Any,
    bias: Any,
    arguments: tuple[Any, ...],
    compiling: bool,
    tracing: bool,
) -> CheckedCall:
    """Check a call, or find it checked.

    Args:
        function: the one that was called.
        input, weight, bias: what it was called with as tensors.
        arguments: the others, in the order of ``Arguments``.
        compiling: whether ``torch.compile`` traces this, so that nothing may be cached.
        tracing: whether ``torch.jit.trace`` records sizes, so that they must be read as numbers.

    Raises:
        TypeError: what should be a tensor is none, or an argument is of a type that has no meaning here.
        ShapeError: sizes or numbers do not fit each other.
    """
    if tracing:
        with untraced():
            return checked_call(function, input, weight, bias, arguments, compiling, False)
    if not (
        isinstance(input, Tensor)
        and isinstance(weight, Tensor)
        and (bias is None or isinstance(bias, Tensor))
    ):
        raise _no_tensor(input, weight, bias)
    shapes = (input.shape, weight.shape, None if bias is None else bias.shape)
    key: tuple[Any, ...] | None = None
    if not compiling:
        key = (*shapes, *map(id, arguments))
        try:
            found = function.checked.get(key)
        except TypeError:  # symbolic sizes
            key = found = None
        if found is not None:
            return found
    named = Arguments(*arguments)
    call = check(function.nd, function.transposed, *shapes, named)
    if key is None or not all(map(_is_frozen, arguments)):
        return CheckedCall(call, named, None)
    guarded = None
    if call.batched and not call.bordered:
        shared = (call, *shapes)
        guarded = function.guarded.get(shared)
        if guarded is None:
            guarded = function.guarded.keep((call.geometry, *shapes[1:]), shared, [])
    return function.checked.keep(key[1:], key, CheckedCall(call, named, guarded))


def _is_frozen(value: Any) -> bool:
    """Whether a value can never come to say something else under the same identity."""
    return (
        value is None or type(value) in (int, str) or (type(value) is tuple and all(map(_is_frozen, value)))
    )


def _no_tensor(input: Any, weight: Any, bias: Any) -> TypeError:
    name, got = next(
        (name, operand)
        for name, operand in (("input", input), ("weight", weight), ("bias", bias))
        if not isinstance(operand, Tensor)
    )
    return TypeError(f"{name!r} must be a tensor: got {type(got).__name__}; legal: torch.Tensor")
