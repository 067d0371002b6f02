"""A graph without views of views that are what they began with, and without copies: traces leave many.

Writing in place leaves views, and a dropout that drops nothing a copy, which nobody needs who does not write.
"""

from __future__ import annotations

from torch.fx import GraphModule, Node

from outstride.compilation.values import Operator, is_tensor, same_sizes

_VIEWS = ("aten.view", "aten._unsafe_view", "aten.reshape")


def simplify(graph: GraphModule) -> None:
    """Let everyone who uses such a view use the tensor itself."""
    for node in list(graph.graph.nodes):
        if _is_copy(node) and _is_same(node.args[0], node):
            node.replace_all_uses_with(node.args[0], _only_reads)
        if not _is_view(node):
            continue
        source = node
        while _is_view(source):
            source = source.args[0]
            if _is_same(source, node):
                node.replace_all_uses_with(source, lambda user: user.op != "output")
                break
    graph.graph.eliminate_dead_code(lambda node: not (_is_view(node) or _is_copy(node)))


def _only_reads(user: Node) -> bool:
    """Whether a user neither returns a value nor writes it to an input, after others were written to."""
    return user.op == "call_function" and Operator.of(user).name != "aten.copy_"


def _is_view(node: Node) -> bool:
    return node.op == "call_function" and is_tensor(node) and Operator.of(node).name in _VIEWS


def _is_copy(node: Node) -> bool:
    return node.op == "call_function" and is_tensor(node) and Operator.of(node).name == "aten.clone"


def _is_same(a: Node, b: Node) -> bool:
    """Whether two tensors of the same memory have the same type, sizes and strides."""
    first, second = a.meta["val"], b.meta["val"]
    if first.dtype != second.dtype:  # a view may read the bits of numbers as those of others
        return False
    return same_sizes(first.shape, second.shape) and same_sizes(first.stride(), second.stride())
