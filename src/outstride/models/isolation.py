"""A model that can be tried out without its owner's noticing: a copy, in surroundings of its own.

Nothing that a forward pass writes arrives at the model that was copied: no weight, buffer or counter, no
attribute, no list that a hook keeps. What the caller has switched on (inference mode, a default device, modes
that watch operators) does not decide what is seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._python_dispatch import _disable_current_modes

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_Own = Callable[[Tensor], Tensor]


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


def isolated(model: torch.nn.Module, own: _Own) -> torch.nn.Module:
    """A copy of a model in which ``own`` has put another tensor in the place of each that it holds.

    Modules are copied, and what they hold; what refuses to be copied (a lock, a module of TorchScript) is
    shared.
    """
    memo: dict[int, Any] = {}
    copies: list[tuple[torch.nn.Module, torch.nn.Module]] = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            memo[id(module)] = module
            continue
        memo[id(module)] = made = module.__class__.__new__(module.__class__)
        copies.append((module, made))
        for held in (vars(module), vars(module)["_parameters"], vars(module)["_buffers"]):
            memo |= {id(value): own(value) for value in held.values() if isinstance(value, Tensor)}
    for module, made in copies:
        for name, value in vars(module).items():
            made.__dict__[name] = _copied(value, memo, own, hooks=name in _HOOKS)
    found: torch.nn.Module = memo[id(model)]
    return found


def _copied(value: Any, memo: dict[int, Any], own: _Own, hooks: bool = False) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    made: Any
    if isinstance(value, Tensor):
        made = memo[id(value)] = own(value)
    elif type(value) is list:
        made = memo[id(value)] = []
        made += [_copied(entry, memo, own, hooks) for entry in value]
    elif type(value) in (tuple, set):
        made = type(value)(_copied(entry, memo, own, hooks) for entry in value)
    elif isinstance(value, dict):
        made = memo[id(value)] = copy.copy(value)
        made.clear()
        made.update({key: _copied(entry, memo, own, hooks) for key, entry in value.items()})
    elif hooks and isinstance(value, FunctionType):
        made = _with_own_cells(value, memo, own)
    else:
        try:
            made = copy.deepcopy(value, memo)
        except Exception:  # noqa: BLE001 - what cannot be copied refuses it with any exception
            made = value
    return made


def _with_own_cells(function: FunctionType, memo: dict[int, Any], own: _Own) -> FunctionType:
    """A hook that keeps what it sees in a list of its own."""
    cells = tuple(_cell(cell, memo, own) for cell in function.__closure__ or ())
    made = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _cell(cell: CellType, memo: dict[int, Any], own: _Own) -> CellType:
    try:
        return CellType(_copied(cell.cell_contents, memo, own))
    except ValueError:  # an empty one
        return cell
