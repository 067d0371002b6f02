"""The written form of a layer, such as ``Conv2d(3, 8, 5, stride=2)``: text to arguments and back."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outstride.errors import ArgumentError

_LONGEST_TEXT = 2000
# So much of a text is said again in an error.
_LONGEST_ECHO = 200
_PREFIXES = ("", "nn.", "torch.nn.", "outstride.nn.")
# They place a layer's numbers or say how they are computed, and its shape arithmetic does not depend on them.
_IRRELEVANT = ("device", "dtype", "return_indices", "algorithm")
# torch prints these unquoted (padding=same, padding_mode=circular), so a bare name is the word itself.
_WORDS = ("padding", "padding_mode")

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
_POOL = ("kernel_size", "stride", "padding")
_TAIL = ("padding_mode", "device", "dtype")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Conv": (*_CONV, "dilation", "groups", "bias", *_TAIL),
    "ConvTranspose": (*_CONV, "output_padding", "groups", "bias", "dilation", *_TAIL),
    "MaxPool": (*_POOL, "dilation", "return_indices", "ceil_mode"),
    "AvgPool": (*_POOL, "ceil_mode", "count_include_pad", "divisor_override"),
}
# By keyword alone: torch's layers do not have them.
_NAMED: dict[str, tuple[str, ...]] = {"Conv": ("algorithm",), "ConvTranspose": ("algorithm",)}
_KINDS = {"Conv": "conv", "ConvTranspose": "conv_transpose", "MaxPool": "max_pool", "AvgPool": "avg_pool"}
_FAMILIES = {kind: family for family, kind in _KINDS.items()}

LAYER_NAMES: dict[str, tuple[str, int]] = {
    f"{family}{nd}d": (kind, nd) for family, kind in _KINDS.items() for nd in (1, 2, 3)
}
"""The layers that a description covers: name -> (kind, number of axes)."""


@dataclass(frozen=True)
class LayerCall:
    """A layer's written form taken apart: its kind, its number of axes and its arguments by name.

    ``left_out`` are those, as they were written, that its sizes and its arithmetic do not depend on.
    """

    kind: str
    nd: int
    arguments: Mapping[str, object]
    left_out: Mapping[str, str]


def read_call(text: str, argument: str = "text") -> LayerCall:
    """Take a layer's written form apart without evaluating anything.

    Args:
        text: a call of one of torch's twelve convolution and pooling layers, by position or by keyword, with
            or without the prefix ``nn.`` or ``torch.nn.``; what torch prints for a layer is read too.
        argument: what an error calls the text: the caller's own name for it.

    Returns:
        The kind, the number of axes and the arguments that were given, by name.

    Raises:
        ArgumentError: the text is no such call, an argument is unknown, given twice or no plain value.

    Example:
        >>> read_call("nn.MaxPool2d(3, padding=1)").arguments
        {'kernel_size': 3, 'padding': 1}
    """
    call = _call_node(text, argument)
    name = ast.unparse(call.func)
    layer = name.rpartition(".")[2]
    if layer not in LAYER_NAMES or name[: -len(layer)] not in _PREFIXES:
        close = difflib.get_close_matches(layer, LAYER_NAMES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ArgumentError(
            f"{argument!r} must name a convolution or pooling layer: got {_brief(name)}{hint}; "
            f"legal: {', '.join(LAYER_NAMES)}"
        )
    kind, nd = LAYER_NAMES[layer]
    parameters = _PARAMETERS[layer[:-2]]
    if layer == "AvgPool1d":
        parameters = parameters[:-1]  # torch gives divisor_override to 2-d and 3-d only
    nodes = _arguments(call, layer, parameters, _NAMED.get(layer[:-2], ()))
    arguments = {name: _value(name, node) for name, node in nodes.items() if name not in _IRRELEVANT}
    left_out = {name: ast.unparse(node) for name, node in nodes.items() if name in _IRRELEVANT}
    return LayerCall(kind, nd, arguments, left_out)


def write_call(kind: str, nd: int, positional: Iterable[object], keywords: Mapping[str, object]) -> str:
    """Write a layer as a call that ``read_call`` takes apart again.

    Args:
        kind: conv, conv_transpose, max_pool or avg_pool.
        nd: number of axes, 1 to 3.
        positional: values of the leading arguments.
        keywords: the other arguments by name.

    Returns:
        The text of the call.

    Example:
        >>> write_call("conv", 2, [3, 8, 5], {"stride": 2})
        'Conv2d(3, 8, 5, stride=2)'
    """
    parts = [*map(repr, positional), *(f"{name}={value!r}" for name, value in keywords.items())]
    return f"{_FAMILIES[kind]}{nd}d({', '.join(parts)})"


def _call_node(text: str, argument: str) -> ast.Call:
    if not isinstance(text, str):
        raise ArgumentError(
            f"{argument!r} must be a string: got {type(text).__name__}; legal: 'Conv2d(3, 8, 3)'"
        )
    if len(text) > _LONGEST_TEXT:
        raise ArgumentError(
            f"{argument!r} must be one layer: got {len(text)} characters; legal: at most {_LONGEST_TEXT}"
        )
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if not isinstance(node, ast.Call):
        raise ArgumentError(
            f"{argument!r} must be one layer, written as a call: got {_brief(text)!r}; "
            "legal: 'Conv2d(3, 8, 3)'"
        )
    return node


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}..."


def _arguments(
    call: ast.Call, layer: str, parameters: tuple[str, ...], by_name: tuple[str, ...]
) -> dict[str, ast.expr]:
    if len(call.args) > len(parameters):
        raise ArgumentError(
            f"{layer} takes at most {len(parameters)} arguments: got {len(call.args)}; "
            f"legal: {', '.join(parameters)}"
        )
    arguments: dict[str, ast.expr] = {}
    legal = (*parameters, *by_name)
    named = [(keyword.arg, keyword.value) for keyword in call.keywords]
    for name, node in [*zip(parameters, call.args, strict=False), *named]:
        if name not in legal:
            close = difflib.get_close_matches(name or "", legal, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            got = _brief(name or "**" + ast.unparse(node))
            raise ArgumentError(f"{layer} has no argument {got!r}{hint}; legal: {', '.join(legal)}")
        if name in arguments:
            raise ArgumentError(f"{name!r} must be given once: got it twice in {layer}; legal: one value")
        arguments[name] = node
    return arguments


def _value(name: str, node: ast.expr) -> object:
    if isinstance(node, ast.Name) and name in _WORDS:
        return node.id
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ArgumentError(
            f"{name!r} must be a plain value: got {_brief(ast.unparse(node))}; "
            f"legal: a number, a tuple, a string, True, False or None"
        ) from None
    return value
