"""A model made of new modules: the tree anew, and everything that hangs in it the same.

``copy.deepcopy`` copies what modules refer to as well: owners of hooks, which then watch nothing, and locks,
which cannot be copied.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import fx
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
    copies: dict[int, Any] = {id(module): _blank(module) for module in modules}
    # What modules keep their hooks in, ahead of the handles that remove them from there.
    kept = [value for module in modules for name, value in vars(module).items() if name in _OWN]
    copies |= {id(value): copy.copy(value) for value in kept if type(value) in _CONTAINERS}
    for module in modules:
        _fill(copies[id(module)], module, copies)
    result: Model = copies[id(model)]
    return result


def is_generated(module: Module) -> bool:
    """Whether ``parametrize`` made the class, which reaches for its only base when it is removed."""
    cls = type(module)
    return parametrize.is_parametrized(module) and len(cls.__bases__) == 1 and "forward" not in vars(cls)


def rebased(cls: type, base: type) -> type:
    """A class that ``parametrize`` made, made again over another base."""
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (base,), body)


def _blank(module: Module) -> Any:
    cls = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return module  # it has no Python parts
    if is_generated(module):
        # Removing a parametrisation takes the attribute from the class.
        cls = rebased(cls, cls.__bases__[0])
    return cls.__new__(cls)


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
