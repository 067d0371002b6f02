"""Surroundings in which a model can be tried out whatever the caller has switched on.

Inference mode, a default device and modes that watch operators do not decide what is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def undisturbed() -> Iterator[None]:
    """No gradients, on the CPU, and without the modes that the caller has entered.

    What decides about a model's numbers stays: the default dtype, autocast, the number of threads.
    """
    with ExitStack() as context:
        context.enter_context(_disable_current_modes())
        context.enter_context(_without_function_modes())
        context.enter_context(torch.inference_mode(False))
        context.enter_context(torch.no_grad())
        yield


@contextmanager
def _without_function_modes() -> Iterator[None]:
    # torch.device and torch.set_default_device are such modes.
    modes = [_pop_mode() for _ in _get_current_function_mode_stack()]
    try:
        yield
    finally:
        for mode in reversed(modes):
            _push_mode(mode)
