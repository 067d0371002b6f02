"""Matrix products: plain ones, linear layers and attention that torch leaves whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from outstride.models.operation import Operation

LAYER = nn.Linear


@dataclass(frozen=True)
class MatrixProduct:
    """(..., m, k) with (..., k, n), or with a vector of k; perhaps something is ``added``."""

    left: Any
    right: Any
    added: Any = None
    by_vector: bool = False


@dataclass(frozen=True)
class Linear:
    """A linear layer along the last axis; ``weight`` is (out, in), where there is one of that form."""

    input: Any
    weight: Any = None
    bias: Any = None


@dataclass(frozen=True)
class Attention:
    """Scaled dot products of (..., tokens, features)."""

    query: Any
    key: Any
    value: Any


@dataclass(frozen=True)
class FusedAttention:
    """Attention of (N, tokens, features) with what is around it, in one call in which all scores are there.

    Behind it may be an average of these over the heads, and two linear layers by way of so many features.
    """

    query: Any
    key: Any
    heads: int
    averages: bool
    features: int = 0


@dataclass(frozen=True)
class ChannelProduct:
    """A linear map of one axis by fixed numbers, the same at all positions, whatever spells it.

    ``weight`` (out, in, 1) and ``bias`` (out,) stand for constants; the result has the axis in its place.
    """

    input: Any
    weight: Any
    bias: Any
    axis: int


@dataclass(frozen=True)
class MatrixProducts:
    """Products of matrices of which both depend on the input, or attention: one for each index in front.

    The first ``leading`` axes of every tensor count matrices, those behind belong to one.
    """

    leading: int
    shapes: tuple[tuple[int, ...], ...]
    """Of a matrix of each source, in the order of the sources, as the operator takes them."""


def read_product(operation: Operation, left: str, right: str, added: str | None = None) -> MatrixProduct:
    """A product of what the operator calls so."""
    return MatrixProduct(
        operation.argument(left), operation.argument(right),
        None if added is None else operation.argument(added), operation.name == "aten.mv",
    )  # fmt: skip


def read_linear(operation: Operation) -> Linear:
    """Whatever its weights."""
    return Linear(*map(operation.argument, ("input", "weight", "bias")))


def read_attention(operation: Operation) -> Attention:
    """However it is computed."""
    return Attention(*map(operation.argument, ("query", "key", "value")))


def read_heads(operation: Operation) -> FusedAttention:
    """That of torch's layer, by itself."""
    query, key, heads = map(operation.argument, ("query", "key", "num_head"))
    return FusedAttention(query, key, heads, bool(operation.argument("need_weights", True)))


def read_encoder(operation: Operation) -> FusedAttention:
    """That of a layer of torch's encoders."""
    source, heads, inner = map(operation.argument, ("src", "num_heads", "ffn_bias_1"))
    return FusedAttention(source, source, heads, averages=False, features=operation.shape_of(inner)[0])


OPERATORS: dict[str, Any] = {
    "aten._native_multi_head_attention": read_heads,
    "aten._transformer_encoder_layer_fwd": read_encoder,
    "aten.mm": partial(read_product, left="self", right="mat2"),
    "aten.bmm": partial(read_product, left="self", right="mat2"),
    "aten.mv": partial(read_product, left="self", right="vec"),
    "aten.addmm": partial(read_product, left="mat1", right="mat2", added="self"),
    "aten.baddbmm": partial(read_product, left="batch1", right="batch2", added="self"),
    "aten.linear": read_linear,
}
OPERATORS |= {
    f"aten._scaled_dot_product_{name}": read_attention
    for name in (
        *("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention"),
        "fused_attention_overrideable",
    )
}
