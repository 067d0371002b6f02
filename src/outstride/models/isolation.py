"""Surroundings in which a model can be tried out whatever the caller has switched on.

Inference mode, a default device and modes that watch operators do not decide what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch._C import _len_torch_dispatch_stack, _len_torch_function_stack
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._python_dispatch import _disable_current_modes

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class undisturbed:  # noqa: N801 - used as a function
    """No gradients, on the CPU, and without the modes that the caller has entered.

    What decides about a model's numbers stays: the default dtype, autocast, the number of threads.
    """

    def __init__(self, inference: bool = False) -> None:
        """``inference``: whether it is inference mode, where torch does less and whose tensors stay in it."""
        self._is_inference = inference

    def __enter__(self) -> None:
        self._contexts: list[AbstractContextManager[Any]] = [torch.inference_mode(self._is_inference)]
        if not self._is_inference:
            self._contexts.append(torch.no_grad())
        if _has_modes():
            self._contexts = [_disable_current_modes(), _without_function_modes(), *self._contexts]
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)

    def __call__(self, function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
        """The function in such surroundings."""

        @wraps(function)
        def within(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            with undisturbed(self._is_inference):
                return function(*args, **kwargs)

        return within


def _has_modes() -> bool:
    """Whether there is one; seldom is there, and to look for all kinds of them takes long."""
    return bool(
        _len_torch_dispatch_stack() or _len_torch_function_stack() or _len_torch_dispatch_stack_pre_dispatch()
    )


@contextmanager
def _without_function_modes() -> Iterator[None]:
    # torch.device and torch.set_default_device are such modes.
    modes = [_pop_mode() for _ in _get_current_function_mode_stack()]
    try:
        yield
    finally:
        for mode in reversed(modes):
            _push_mode(mode)
