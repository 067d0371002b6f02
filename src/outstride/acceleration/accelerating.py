"""``accelerate`` and ``restore``: the same model, its layers computed here or by torch.

A layer gets another ``forward`` and nothing else, so class, parameters, hooks, names, device, dtype, training
flag and parametrisations stay what and where they are, and whatever knows a layer by its class still does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from outstride import nn
from outstride.engine.launch.linear_layers import linear_declines
from outstride.engine.launch.plans import declines
from outstride.engine.launch.weights.packing import PACKED
from outstride.layer import arguments
from outstride.layer.shortening import ALGORITHMS
from outstride.models.copying import is_generated, rebased, renewed
from outstride.models.operators import convolution
from outstride.models.stock import METHODS, linear_own_way, own_way, replaced
from outstride.nn.kinds import ServedConv, ServedConvTranspose, torch_can
from outstride.nn.serving import algorithm_of, serve, serving_of
from outstride.output.tables import text_table

__all__ = ["accelerate", "restore", "summary"]

Model = TypeVar("Model", bound=torch.nn.Module)

_SERVED: dict[type, Any] = {
    stock: getattr(nn, stock.__name__) for stock in (*convolution.LAYERS, torch.nn.Linear)
}
_STOCK: dict[type, type] = {
    getattr(nn, prefix + stock.__name__): getattr(torch.nn, prefix + stock.__name__)
    for prefix in ("", "Lazy")
    for stock in convolution.LAYERS
} | {nn.Linear: torch.nn.Linear}
_FAMILY = (convolution.FAMILY, torch.nn.Linear)
_OURS = (ServedConv, ServedConvTranspose, nn.Linear)


def accelerate(
    model: Model, inplace: bool = False, *, algorithm: str = "auto", frozen: bool = False
) -> Model:
    """Let this engine compute every convolution layer of a model, and every linear layer.

    Args:
        model: any module, also a single layer. Served are torch's own layers and subclasses that leave
            ``forward`` and ``_conv_forward`` to torch; all others stay as they are, and ``summary`` says why.
            Of linear layers those of eight features or more on either side, in float32 and float64.
        inplace: change the model itself instead of a copy of its structure.
        algorithm: "direct" for one chain of multiply-adds for each output and each gradient of every layer;
            "auto" for what each layer asks for, which is "auto" unless it was told otherwise.
        frozen: promise that nobody writes to the weights before ``restore``. Calls then do not look whether
            they changed, which costs as long as reading them. A change that torch counts is still seen, with
            a warning, and so is a weight put in another's place; one through ``.data``, NumPy or a fused
            optimiser is not. The promise is about the memory, so it holds for all models that share it, and
            ends where a weight is given other memory, as by ``to(memory_format=...)``: convert models before.

    Returns:
        The model, or one of new modules that share parameters, buffers and everything else with it.

    Raises:
        ArgumentError: `model` is no module, `algorithm` none of its names.

    Law: ``restore(accelerate(model))`` computes what ``model`` computes, with the same parameters.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> accelerate(model)[0].weight is model[0].weight
        True
        >>> isinstance(accelerate(model)[0], nn.Conv2d)  # that is, served as such
        True
    """
    arguments.module("model", model)
    arguments.choice("algorithm", algorithm, ALGORITHMS)
    if not inplace:
        model = renewed(model)
    for module in list(model.modules()):
        _serve(module, algorithm)
    for weight in _own_weights(model):
        (PACKED.freeze if frozen else PACKED.thaw)(weight)
    return model


def restore(model: Model) -> Model:
    """Let torch compute every layer of a model again: undo ``accelerate``.

    Args:
        model: any module, changed in place. A layer with an option that torch does not know (such as
            padding="same" on a transposed layer) stays with this engine.

    Returns:
        The same model.

    Raises:
        ArgumentError: `model` is no module.

    Example:
        >>> isinstance(restore(accelerate(torch.nn.Conv2d(3, 8, 3))), nn.Conv2d)
        False
    """
    arguments.module("model", model)
    for weight in _own_weights(model):
        PACKED.thaw(weight)
    for module in list(model.modules()):
        if serving_of(module) is not None:
            del vars(module)["forward"]
            continue
        stock = _stock_class(type(module), module)
        if stock is not None and (stock is torch.nn.Linear or torch_can(module)):
            module.__class__ = stock
            vars(module).pop("algorithm", None)
    return model


@dataclass(frozen=True)
class Summary:
    """Which convolution and linear layers of a model the engine serves, printable."""

    layers: tuple[tuple[str, str, str], ...]
    """Name in the model, layer, and "served" or the reason why torch runs it."""

    def __str__(self) -> str:
        served = sum(fate.startswith("served") for _, _, fate in self.layers)
        head = f"{served} of {len(self.layers)} layers are served"
        return "\n".join([head, *(f"  {line}" for line in (text_table(self.layers) if self.layers else ()))])


def summary(model: torch.nn.Module) -> Summary:
    """Say which convolution and linear layers of a model the engine serves, and why not the others.

    Args:
        model: any module, accelerated or not.

    Returns:
        The layers in order with what becomes of each; print it, or read its ``layers``.

    Raises:
        ArgumentError: `model` is no module.

    Example:
        >>> print(summary(accelerate(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)))))
        1 of 1 layers are served
          0  Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))  served
    """
    arguments.module("model", model)
    rows = (
        (name or "(model)", repr(module).partition("\n")[0], _fate(module))
        for name, module in model.named_modules()
        if isinstance(module, _FAMILY)
    )
    return Summary(tuple(rows))


def _own_weights(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The weights of served layers that stay where they are; a parametrised layer makes its own anew."""
    for module in model.modules():
        if isinstance(module, _OURS):
            weight = vars(module)["_parameters"].get("weight")
            if type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.device.type == "cpu":
                yield weight


def _fate(module: torch.nn.Module) -> str:
    if isinstance(module, _OURS):
        weight = getattr(module, "weight", None)
        reason = _declined(module, weight) if isinstance(weight, torch.Tensor) else None
        asked = algorithm_of(module)
        served = "served" if asked == "auto" else f"served, algorithm={asked!r}"
        return served if reason is None else f"by torch: {reason}"
    reason = _left_alone(module)
    return f"by torch: {reason or 'accelerate was not asked'}"


def _declined(module: torch.nn.Module, weight: torch.Tensor) -> str | None:
    if isinstance(module, torch.nn.Linear):
        features = (module.out_features, module.in_features)
        return linear_declines(features, weight.dtype, weight.device)
    return declines(weight.dtype, weight.device)


def _serve(module: torch.nn.Module, algorithm: str) -> None:
    serving = serving_of(module)
    if serving is not None:
        wanted = serving.algorithm if algorithm == "auto" else algorithm
        # It may have been copied attribute by attribute, the engine of another with them.
        if serving.layer is not module or wanted != serving.algorithm:
            serve(module, serving.served, wanted)
    elif isinstance(module, _OURS):
        if algorithm != "auto":
            module.algorithm = algorithm
    elif isinstance(module, _FAMILY) and _left_alone(module) is None:
        stock = _stock_of(type(module))
        if stock is not None:
            serve(module, _SERVED[stock], algorithm)


def _stock_of(cls: type) -> type | None:
    return next((base for base in cls.__mro__ if base in _SERVED), None)


def _left_alone(module: torch.nn.Module) -> str | None:
    """Why a layer is not touched; None for one that can be served."""
    cls = type(module)
    stock = _stock_of(cls)
    if stock is None:
        return f"{cls.__name__} computes in its own way"
    if issubclass(cls, _OURS):
        return "it is a layer of outstride.nn"
    own = linear_own_way(cls) if stock is torch.nn.Linear else own_way(cls, stock, METHODS)
    return replaced(module) or own


def _stock_class(cls: type, module: torch.nn.Module) -> type | None:
    if cls in _STOCK:
        return _STOCK[cls]
    if issubclass(cls, _OURS) and is_generated(module):
        base = _stock_class(cls.__bases__[0], module)
        return None if base is None else rebased(cls, base)
    return None
