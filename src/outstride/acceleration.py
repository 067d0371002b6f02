"""``accelerate`` and ``restore``: the same model, its convolution layers computed here or by torch.

A layer changes its class and nothing else, so parameters, hooks, names, device, dtype, training flag and
parametrisations stay what and where they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from outstride import nn
from outstride.nn.convolution import ServedConv, ServedConvTranspose
from outstride.ops.packing import PACKED

__all__ = ["accelerate", "restore"]

Model = TypeVar("Model", bound=torch.nn.Module)

_NAMES = [
    f"{lazy}Conv{transpose}{nd}d"
    for lazy in ("", "Lazy")
    for transpose in ("", "Transpose")
    for nd in (1, 2, 3)
]
_SERVED: dict[type, type] = {getattr(torch.nn, name): getattr(nn, name) for name in _NAMES}
_STOCK: dict[type, type] = {served: stock for stock, served in _SERVED.items()}
_SERVED_SUBCLASSES: dict[type, type] = {}


def accelerate(model: Model, inplace: bool = False, *, frozen: bool = False) -> Model:
    """Let this engine compute every convolution layer of a model.

    Args:
        model: any module, also a single layer. Served are torch's own convolution layers and subclasses that
            leave ``forward`` and ``_conv_forward`` to torch; all others stay as they are.
        inplace: change the model itself instead of a copy of its structure.
        frozen: promise that nobody writes to the weights before ``restore``. Calls then do not look whether
            they changed, which costs as long as reading them. A change that torch counts is still seen, with
            a warning, and so is a weight put in another's place; one through ``.data``, NumPy or a fused
            optimiser is not. The promise is about the memory, so it holds for all models that share it.

    Returns:
        The model, or a copy that shares every parameter and buffer with it.

    Law: ``restore(accelerate(model))`` computes what ``model`` computes, with the same parameters.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> accelerate(model)[0].weight is model[0].weight
        True
    """
    if not inplace:
        model = copy.deepcopy(model, _shared_tensors(model))
    for module in list(model.modules()):
        served = None if _is_patched(module) else _served_class(type(module), module)
        if served is not None:
            module.__class__ = served
    for weight in _own_weights(model):
        (PACKED.freeze if frozen else PACKED.thaw)(weight)
    return model


def restore(model: Model) -> Model:
    """Let torch compute every convolution layer of a model again: undo ``accelerate``.

    Args:
        model: any module, changed in place. A layer with an option that torch does not know (such as
            padding="same" on a transposed layer) stays with this engine.

    Returns:
        The same model.

    Example:
        >>> type(restore(accelerate(torch.nn.Conv2d(3, 8, 3))))
        <class 'torch.nn.modules.conv.Conv2d'>
    """
    for weight in _own_weights(model):
        PACKED.thaw(weight)
    for module in list(model.modules()):
        stock = _stock_class(type(module), module)
        if stock is not None and _torch_can(module):
            module.__class__ = stock
    return model


def _shared_tensors(model: torch.nn.Module) -> dict[int, Any]:
    """What ``deepcopy`` takes as copied already."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        # weight_norm keeps the weight it computes as a plain attribute, which refuses to be copied.
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(tensor): tensor for tensor in tensors}


def _own_weights(model: torch.nn.Module) -> Iterator[Tensor]:
    """The weights of served layers that stay where they are; a parametrised layer makes its own anew."""
    for module in model.modules():
        if isinstance(module, (ServedConv, ServedConvTranspose)):
            weight = vars(module)["_parameters"].get("weight")
            if type(weight) in (Tensor, torch.nn.Parameter) and weight.device.type == "cpu":
                yield weight


def _is_patched(module: torch.nn.Module) -> bool:
    """Whether somebody put a function of theirs in the place of the layer's."""
    return "forward" in vars(module) or "_conv_forward" in vars(module)


def _served_class(cls: type, module: torch.nn.Module) -> type | None:
    if cls in _SERVED:
        return _SERVED[cls]
    stock = next((base for base in cls.__mro__ if base in _SERVED), None)
    if stock is None or issubclass(cls, (ServedConv, ServedConvTranspose)):
        return None
    if _is_generated(cls, module):
        base = _served_class(cls.__bases__[0], module)
        return None if base is None else _rebased(cls, base)
    if any(
        getattr(cls, name) is not getattr(stock, name) for name in ("forward", "_conv_forward", "__call__")
    ):
        return None
    return _served_subclass(cls, _SERVED[stock])


def _stock_class(cls: type, module: torch.nn.Module) -> type | None:
    if cls in _STOCK:
        return _STOCK[cls]
    if "_outstride_stock" in vars(cls):
        stock: type = vars(cls)["_outstride_stock"]
        return stock
    if issubclass(cls, (ServedConv, ServedConvTranspose)) and _is_generated(cls, module):
        base = _stock_class(cls.__bases__[0], module)
        return None if base is None else _rebased(cls, base)
    return None


def _is_generated(cls: type, module: torch.nn.Module) -> bool:
    """Whether ``parametrize`` made the class, which reaches for its only base when it is removed."""
    return parametrize.is_parametrized(module) and len(cls.__bases__) == 1 and "forward" not in vars(cls)


def _rebased(cls: type, base: type) -> type:
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (base,), body)


def _served_subclass(cls: type, served: type) -> type:
    if cls not in _SERVED_SUBCLASSES:
        mixin = ServedConvTranspose if issubclass(served, ServedConvTranspose) else ServedConv
        body = {
            "nd": vars(served)["nd"],
            "function": vars(served)["function"],
            "__init__": cls.__init__,  # type: ignore[misc]
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "__reduce__": _reduce,
            "_outstride_stock": cls,
        }
        _SERVED_SUBCLASSES[cls] = type(cls.__name__, (mixin, cls), body)
    return _SERVED_SUBCLASSES[cls]


def _reduce(module: Any) -> tuple[Any, ...]:
    # The class cannot be found by name, so a pickle says how to make it again.
    return _new_served, (vars(type(module))["_outstride_stock"],), dict(vars(module))


def _new_served(cls: type) -> Any:
    stock = next(base for base in cls.__mro__ if base in _SERVED)
    served = _served_subclass(cls, _SERVED[stock])
    return object.__new__(served)


def _torch_can(module: Any) -> bool:
    padding = module.padding
    if any(isinstance(entry, (tuple, list)) for entry in padding):
        return False
    if isinstance(module, ServedConvTranspose):
        return module.padding_mode == "zeros" and not isinstance(padding, str)
    return padding != "same" or all(step == 1 for step in module.stride)
