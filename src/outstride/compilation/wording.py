"""What operators are called, and why one is not part of the launch before it, or is torch's: in words."""

from __future__ import annotations

from operator import getitem

from torch.fx import Node

from outstride.compilation.values import Operator, shape

_WORDS = {
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_native_batch_norm_legit_functional": "batch_norm of the input",
    "native_batch_norm": "batch_norm of the input",
    "native_dropout": "dropout",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    "constant_pad_nd": "pad",
    "addmm": "linear",
    "_prelu_kernel": "prelu",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "_to_copy": "copy",
    "_unsafe_index": "indexing",
    "_upsample_nearest_exact1d": "upsample_nearest_exact1d",
    "_upsample_nearest_exact2d": "upsample_nearest_exact2d",
    "_upsample_nearest_exact3d": "upsample_nearest_exact3d",
}
"""What users call torch's operators."""
_TWO_ROUTINES = frozenset(("gelu", "mish", "softplus", "glu", "softmax", "log_softmax"))
"""What torch computes by one routine in vectors and by another at their ends: bits depend on the place."""
_OF_A_LIBRARY = frozenset(("tanh", "exp", "expm1", "log", "log1p", "sin", "cos", "erf"))
"""What torch calls libraries for, whose roundings nobody states."""
_STEPS = frozenset(
    (
        *("relu", "leaky_relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "hardswish", "hardsigmoid"),
        *("silu", "sigmoid", "elu", "celu", "selu", "prelu", "batch_norm"),
        *("add", "sub", "mul", "div", "abs", "neg", "pow"),
    )
)
_STARTS = frozenset(
    (
        *("conv", "conv_transpose", "conv_weight", "max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d"),
        *("pixel_shuffle", "pixel_unshuffle", "instance_norm", "group_norm", "layer_norm", "mean", "cat"),
        *("pad", *(f"{name}_pad{axes}d" for name in ("reflection", "replication") for axes in (1, 2, 3))),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        *(f"{name}{axes}d" for name in ("upsample_nearest", "upsample_nearest_exact") for axes in (1, 2, 3)),
    )
)
"""What launches begin with."""
_VIEWS = frozenset(("view", "_unsafe_view", "reshape", "permute", "transpose", "squeeze", "unsqueeze"))
_PARTS = frozenset(
    ("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "narrow", "expand", "as_strided")
)
_CONDITIONS = (
    "inputs are",
    "inputs have",
    "inputs with ",
    "channels ",
    "the elements",
    "weight and",
    "operands",
    "'eps'",
)
"""How a launch function begins that says when it does something; others say why it does not."""


def word(node: Node) -> str:
    """What an operator is called; the taking of a result and arithmetic on sizes have no name."""
    if node.op != "call_function":
        return str(node.target)
    if not hasattr(node.target, "_schema"):
        return ""
    name = Operator.of(node).name.split(".", 1)[-1]
    if name == "_native_batch_norm_legit":
        joined = node.args[0]
        alone = isinstance(joined, Node) and shape(joined)[0] == 1
        return "instance_norm" if alone else "batch_norm of the input"
    return _WORDS.get(name, name)


def is_view(node: Node) -> bool:
    """Whether an operator moves nothing, so that its name says nothing of a launch."""
    return node.op == "call_function" and node.target is not getitem and word(node) in _VIEWS


def why_next(node: Node) -> str:
    """Why the launch before an operator, which alone uses its value, ends there."""
    while is_view(node) and len(node.users) == 1:
        (node,) = node.users
    if node.op == "output":
        return "its value is a result"
    name = word(node)
    return f"{name} is next" if name in _STARTS | _PARTS or is_view(node) else why_torch(node)


def why_torch(node: Node) -> str:
    """Why torch computes an operator."""
    name = word(node)
    if name in _TWO_ROUTINES:
        return f"torch has two routines for {name}"
    if name in _OF_A_LIBRARY:
        return f"torch calls a library for {name}"
    if name in _STEPS:
        return f"{name} of other sizes or types than steps"
    return f"no kernel here does {'this ' if name in _STARTS else ''}{name}" if name else ""


def why_declined(reason: str) -> str:
    """Why a kernel does not do an operator, of the launch function's own words."""
    return f"only if {reason}" if reason.startswith(_CONDITIONS) else reason
