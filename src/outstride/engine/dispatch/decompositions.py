"""The operators in torch's own, where torch's ONNX exporter and its decompositions look for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from outstride.engine.launch.by_torch import conv, conv_transpose

__all__ = ["conv", "conv_transpose", "register"]


def register(operator: Any, decomposition: Callable[..., Tensor], shape_rule: Callable[..., Tensor]) -> None:
    """Tell torch what an operator is made of.

    Shapes go on being the operator's own: without its rule among the meta functions, torch would take the
    decomposition's as soon as a size is a symbol, and strides that the engine does not return.
    """
    try:
        from torch._decomp import register_decomposition
    except ImportError:  # pragma: no cover - a torch that moved it; only ONNX files miss it
        return
    register_decomposition(operator, type="meta")(shape_rule)
    register_decomposition(operator)(decomposition)
