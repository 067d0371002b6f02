"""The few private functions of torch that a cheap and transformable call needs, each with a way around it.

Only speed depends on those of the first half: where a torch release lacks one, every call takes torch's
dispatcher instead. The second half lets the operators stand under torch.func as torch's own do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

_Value = TypeVar("_Value")

try:
    _transforms_active = torch._C._are_functorch_transforms_active
    _dispatch_modes = torch._C._len_torch_dispatch_stack
    _function_modes = torch._C._len_torch_function_stack
    _tracing_state = torch._C._get_tracing_state
    _profiling = torch._C._autograd._profiler_enabled
    _autocasting = torch._C._is_any_autocast_enabled
    _dispatch_keys = torch._C._dispatch_keys
    # Compared as numbers: in torch 2.6 two equal sets of keys are equal only if they are one object.
    _PLAIN = _dispatch_keys(torch.empty(0)).raw_repr()
    with torch.inference_mode():
        _PLAIN_INFERENCE = _dispatch_keys(torch.empty(0)).raw_repr()
    _FOUND = True
except AttributeError:  # pragma: no cover - a torch that moved them
    _FOUND = False
_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_GUARDS: Any = getattr(getattr(torch._C, "_dynamo", None), "guards", None)


def _empty_strided(size: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(size, strides, dtype=dtype)


#: A new CPU tensor of this size, strides and dtype, as inductor's code makes it: at a quarter of the cost of
#: ``torch.empty``.
empty_strided: Callable[[Sequence[int], Sequence[int], torch.dtype], Tensor] = getattr(
    _GUARDS, "_empty_strided_cpu", _empty_strided
)


def constant_while_traced(function: Callable[[], _Value]) -> Callable[[], _Value]:
    """A function that torch's tracer calls, and takes what it returns for a constant.

    ``torch.compiler.assume_constant_result`` does so, too, but imports the tracer, which takes a second. A
    torch that reads no such mark follows the function's code, and warns of what is cached there.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function


def tensor_guard(*tensors: Tensor, free_axes: int = 0) -> Callable[..., bool] | None:
    """A test whether tensors are like these, by the guard that torch puts before compiled code.

    In one call it compares types, dispatch keys as the thread's modes and transforms leave them, dtypes,
    sizes, strides and ``requires_grad``, which takes Python some thirty reads. With ``free_axes`` the first
    tensor may have any sizes on so many last axes, and any strides. None where torch has no such guard, or
    where one tensor stands for two operands, which it does not allow.
    """
    sizes: list[list[int | None]] | None = None
    strides: list[list[int | None]] | None = None
    if free_axes:
        first, *others = tensors
        sizes = [
            [*first.shape[:-free_axes], *[None] * free_axes],
            *(list[int | None](t.shape) for t in others),
        ]
        strides = [[None] * first.dim(), *(list[int | None](t.stride()) for t in others)]
    try:
        guard = _GUARDS.TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    except (AttributeError, TypeError):  # pragma: no cover - a torch that moved it
        return None
    check: Callable[..., bool] = guard.check
    return check if check(*tensors) else None


def is_intercepted() -> bool:
    """Whether a transform, mode, tracer, profiler, autocast or forward derivative intercepts operators.

    So it is said, too, where this torch cannot be asked.
    """
    return (
        not _FOUND
        or _transforms_active()
        or _dispatch_modes() > 0
        or _function_modes() > 0
        or forward_derivatives_active()
        or _tracing_state() is not None
        or _profiling()
        or _autocasting()
    )


def is_intercepted_beyond_guard() -> bool:
    """Whether one of those that no guard of tensors shows intercepts operators."""
    return _function_modes() > 0 or forward_ad._current_level >= 0 or _profiling()


def forward_derivatives_active() -> bool:
    """Whether some dual level is open, so that any tensor may carry a tangent."""
    return forward_ad._current_level >= 0


def is_differentiating() -> bool:
    """Whether this thread computes gradients; no, where this torch cannot be asked."""
    return _graph_task() >= 0


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense CPU memory and nothing else: no subclass, wrapper or lazy negation."""
    kind = type(tensor)
    if kind is Parameter:  # never a wrapper: torch.func hands out plain tensors in a parameter's place
        return tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_neg()
    if kind is not Tensor:
        return False
    return _dispatch_keys(tensor).raw_repr() in (_PLAIN, _PLAIN_INFERENCE)


def overrides_torch_function(*operands: Any) -> bool:
    """Whether an operand's class overrides ``__torch_function__`` or ``__torch_dispatch__``.

    Torch's fake tensors, with which it traces, are none of them; nor is a subclass that overrides nothing.
    """
    for operand in operands:
        kind = type(operand)
        if kind is Tensor or kind is Parameter or operand is None:
            continue
        if not issubclass(kind, Tensor):
            if hasattr(kind, "__torch_function__"):
                return True
            continue
        if kind.__module__.startswith("torch._subclasses"):
            continue
        function = kind.__torch_function__
        overridden = function is not torch._C._disabled_torch_function_impl and (
            getattr(function, "__func__", None) is not getattr(Tensor.__torch_function__, "__func__", None)
        )
        if overridden or kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl:
            return True
    return False


_Function: Any = getattr(torch.autograd.function, "_SingleLevelFunction", torch.autograd.Function)


@contextmanager
def untraced() -> Iterator[None]:
    """Read sizes as numbers while ``torch.jit.trace`` records."""
    torch_c: Any = torch._C
    state = torch_c._get_tracing_state()
    torch_c._set_tracing_state(None)
    try:
        yield
    finally:
        torch_c._set_tracing_state(state)


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` records."""
    return torch._C._get_tracing_state() is not None


class SingleLevelFunction(_Function):  # type: ignore[misc]
    """An autograd function of one level of differentiation: torch's dispatcher goes through the levels."""


@contextmanager
def single_level() -> Iterator[None]:
    """Allow a ``SingleLevelFunction`` to be applied while torch.func transforms are active."""
    with ExitStack() as stack:
        if torch._C._are_functorch_transforms_active():
            from torch._functorch import autograd_function

            functions: Any = autograd_function
            stack.enter_context(functions.enable_single_level_autograd_function())
        yield


def redispatch_from_function(operator: Any, keyset: Any, *arguments: Any) -> Tensor:
    """Call an operator below its derivative, from inside an autograd function.

    The function has switched both kinds of derivative off; the outer levels of torch.func still want theirs.
    """
    with ExitStack() as stack:
        if torch._C._are_functorch_transforms_active():
            stack.enter_context(torch.enable_grad())
            stack.enter_context(forward_ad._set_fwd_grad_enabled(True))
        return redispatch(operator, keyset, *arguments)


def redispatch(operator: Any, keyset: Any, *arguments: Any) -> Tensor:
    """Call an operator below its derivative."""
    with torch._C._AutoDispatchBelowAutograd():
        result: Tensor = operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)
        return result


@contextmanager
def outer_tangents() -> Iterator[None]:
    """Let the levels around a jvp see the operators inside it; torch switches them off with its own."""
    with forward_ad._set_fwd_grad_enabled(True):
        yield


def without_own_tangent(tensor: Tensor) -> Tensor:
    """The tensor at this level without this level's tangent; the tangents of outer levels stay."""
    primal: Tensor = forward_ad.unpack_dual(tensor).primal
    return primal
