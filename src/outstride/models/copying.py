"""Models made of new modules, which share all that hangs in them, or nothing.

``copy.deepcopy`` alone does neither: it copies the owners of hooks, which then watch nothing, and fails at
locks and at tensors that were computed.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, fx
from torch.nn import Module
from torch.nn.modules.module import _WrappedHook
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

Model = TypeVar("Model", bound=Module)

#: What a module itself keeps, each in a container of its own.
_OWN = frozenset(vars(Module()))
_CONTAINERS = (list, tuple, set, dict, OrderedDict)
#: What refers to a module or its hooks weakly, and says in its state to which.
_WEAK = (_WrappedHook, RemovableHandle)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_Own = Callable[[Tensor], Tensor]


def is_generated(module: Module) -> bool:
    """Whether ``parametrize`` made the class, which reaches for its only base when it is removed."""
    cls = type(module)
    return parametrize.is_parametrized(module) and len(cls.__bases__) == 1 and "forward" not in vars(cls)


def rebased(cls: type, base: type) -> type:
    """A class that ``parametrize`` made, made again over another base."""
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (base,), body)


def _blanks(model: Module) -> dict[int, Any]:
    """For each module of a model, by its id, another of its class that holds nothing yet."""
    return {id(module): _blank(module) for module in model.modules()}


def _blank(module: Module) -> Any:
    cls = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return module  # it has no Python parts
    if is_generated(module):
        # Removing a parametrisation takes the attribute from the class.
        cls = rebased(cls, cls.__bases__[0])
    return cls.__new__(cls)


# Everything shared but the modules.
def renewed(model: Model) -> Model:
    """Copy the modules of a model and nothing else.

    Args:
        model: any module.

    Returns:
        A model of new modules of the same classes. Parameters, buffers and whatever else modules refer to are
        the same objects; where they refer to each other, in attributes, lists or as the owners of hooks, the
        new ones do.
    """
    modules = list(model.modules())
    copies = _blanks(model)
    # What modules keep their hooks in, ahead of the handles that remove them from there.
    kept = [value for module in modules for name, value in vars(module).items() if name in _OWN]
    copies |= {id(value): copy.copy(value) for value in kept if type(value) in _CONTAINERS}
    for module in modules:
        _fill(copies[id(module)], module, copies)
    result: Model = copies[id(model)]
    return result


def _fill(new: Any, module: Any, copies: dict[int, Any]) -> None:
    if new is module:
        return
    for name, value in vars(module).items():
        new_value = _following(value, copies)
        if name in _OWN and isinstance(value, dict):
            new_value.update(_followed_items(value, copies))
        vars(new)[name] = new_value
    if isinstance(module, fx.GraphModule):
        new.graph = copy.deepcopy(module.graph)  # with a ``forward`` of its own
    elif "_orig_mod" in vars(module)["_modules"] and hasattr(module, "_initialize"):
        # What torch.compile returned calls what it compiled: that of its own module.
        new._initialize()  # noqa: SLF001  # no public way


def _following(value: Any, copies: dict[int, Any], within: tuple[int, ...] = ()) -> Any:
    """The value, or the same with new modules where it holds old ones."""
    if id(value) in copies:
        return copies[id(value)]
    if id(value) in within:
        return value  # a container that holds itself
    kind: Any = type(value)
    inside = (*within, id(value))

    def follow(part: Any) -> Any:
        return _following(part, copies, inside)

    if kind is MethodType:
        owner = follow(value.__self__)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if kind is partial:
        parts = (value.func, value.args, value.keywords)
        function, arguments, named = map(follow, parts)
        same = _same(parts, (function, arguments, named))
        return value if same else partial(function, *arguments, **named)
    if kind in _WEAK:
        state = value.__getstate__()
        new_state = follow(state)
        if new_state is state:
            return value
        held = kind.__new__(kind)
        held.__setstate__(new_state)
        return held
    if kind not in _CONTAINERS:
        return value
    if isinstance(value, dict):
        items = _followed_items(value, copies, inside)
        return value if _same(value.values(), items.values()) else kind(items)
    old = list(value)
    new = list(map(follow, old))
    return value if _same(old, new) else kind(new)


def _followed_items(
    value: dict[Any, Any], copies: dict[int, Any], within: tuple[int, ...] = ()
) -> dict[Any, Any]:
    return {key: _following(part, copies, within) for key, part in value.items()}


def _same(old: Any, new: Any) -> bool:
    return all(a is b for a, b in zip(old, new, strict=True))


# Nothing shared.
def isolated(model: Module, own: _Own) -> Module:
    """A copy of a model in which ``own`` has put another tensor in the place of each that it holds.

    Nothing that a forward pass writes arrives at the model that was copied: no weight, buffer or counter, no
    attribute, no list that a hook keeps. What refuses to be copied (a lock, a module of TorchScript) is
    shared.
    """
    memo = _blanks(model)
    copies = [(module, memo[id(module)]) for module in model.modules() if memo[id(module)] is not module]
    for module, _ in copies:
        for held in (vars(module), vars(module)["_parameters"], vars(module)["_buffers"]):
            memo |= {id(value): own(value) for value in held.values() if isinstance(value, Tensor)}
    for module, made in copies:
        for name, value in vars(module).items():
            vars(made)[name] = _copied(value, memo, own, hooks=name in _HOOKS)
        if isinstance(module, fx.GraphModule):
            made.graph = vars(made)["_graph"]  # which gives it a ``forward`` of its own
    found: Module = memo[id(model)]
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


def inferring(model: Model) -> Model:
    """The model itself, in inference mode; a program that was exported remains what it was exported as."""
    with suppress(NotImplementedError):
        model.eval()
    return model


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


def duplicated(model: Module) -> Module:
    """A copy of a model, also of one whose layers keep weights that were computed.

    ``torch.nn.utils.weight_norm`` keeps such a weight as a plain attribute, which refuses to be copied; it is
    computed anew at every call.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, memo)
