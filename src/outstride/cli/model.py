"""Turn the word MODEL of a command into a model: a layer, a factory, a name in timm or torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

LEGAL = '"Conv2d(3, 64, 3)", package.module:callable, file.py:callable, timm:resnet18 or torchvision:resnet18'


def read_model(text: str) -> Module:
    """The model that a text names, with fresh weights; nothing is downloaded.

    Raises:
        ArgumentError: the text names none, or making it fails.
    """
    from outstride.bench.work import build_model
    from outstride.cli.layer import build_layer, read_built
    from outstride.errors import ArgumentError
    from outstride.nn.building import built

    if "(" in text:
        spec = read_built(text, "MODEL")
        return built(spec) if spec.is_pool else build_layer(spec, "float32")
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise ArgumentError(f"'MODEL' must be a layer or name a model: got {text!r}; legal: {LEGAL}.")
    return build_model(text)
