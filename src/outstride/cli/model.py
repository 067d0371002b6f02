"""Turn the word MODEL of a command into a model: a layer, a factory, a name in timm or torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module

    from outstride.layer.spec import ConvSpec

LEGAL = '"Conv2d(3, 64, 3)", package.module:callable, file.py:callable, timm:resnet18 or torchvision:resnet18'


def read_model(text: str) -> Module:
    """The model that a text names, with fresh weights; nothing is downloaded.

    Raises:
        ArgumentError: the text names none, or making it fails.
    """
    from outstride.bench.work import build_model
    from outstride.cli.layer import build_layer, read_built
    from outstride.errors import ArgumentError

    if "(" in text:
        spec = read_built(text, "MODEL")
        return _pooling(spec) if spec.is_pool else build_layer(spec, "float32")
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise ArgumentError(f"'MODEL' must be a layer or name a model: got {text!r}; legal: {LEGAL}.")
    return build_model(text)


def _pooling(spec: ConvSpec) -> Module:
    from outstride import nn

    family = "MaxPool" if spec.kind == "max_pool" else "AvgPool"
    padding: Any = spec.padding
    if not isinstance(padding, str):
        # Torch's classes hold one number for both sides; unequal ones are refused by name.
        padding = tuple(low if low == high else (low, high) for low, high in padding)
    options: dict[str, Any] = {"ceil_mode": spec.ceil_mode}
    if family == "MaxPool":
        options["dilation"] = spec.dilation
    else:
        options["count_include_pad"] = spec.count_include_pad
    made: Module = getattr(nn, f"{family}{spec.nd}d")(spec.kernel_size, spec.stride, padding, **options)
    return made
