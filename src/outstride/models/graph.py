"""A model as a graph of torch's operators, with every tensor's size for the whole input.

It is run once without numbers, so an input of any size costs milliseconds, while every operator is written
down.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from outstride.errors import ShapeError, UnsupportedError
from outstride.models.copying import isolated
from outstride.models.isolation import undisturbed
from outstride.models.node import Node, Source
from outstride.models.operation import mapped
from outstride.models.recording import Recorder

__all__ = ["Graph", "Input", "Nest", "Node", "Source", "capture", "capture_call"]

#: What may stand beside tensors in what a model returns; it is handed back as it is.
_PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class Input:
    """A tensor that a model is called with, without its numbers; without strides it lies in order."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Nest:
    """How a model wraps the tensors that it returns."""

    structure: Any
    beside: Mapping[int, Any]
    """What is no tensor, by its place among all leaves."""

    def of(self, made: Sequence[Any]) -> Any:
        """The nest with these in the places of its tensors."""
        tensors = iter(made)
        count = len(made) + len(self.beside)
        leaves = [self.beside[place] if place in self.beside else next(tensors) for place in range(count)]
        return pytree.tree_unflatten(leaves, self.structure)

    def paths(self, made: Sequence[Any]) -> list[Any]:
        """The way to each tensor of so many, in torch's keys."""
        found, _ = pytree.tree_flatten_with_path(self.of(made))
        return [path for place, (path, _) in enumerate(found) if place not in self.beside]


@dataclass(frozen=True)
class Graph:
    """The tensors of a model in the order in which they are made, the inputs first."""

    nodes: tuple[Node, ...]
    constants: Mapping[int, Tensor]
    """Tensors that do not depend on the inputs."""
    outputs: tuple[int, ...]
    nest: Nest
    """How the model wraps its outputs."""
    inputs: tuple[int, ...] = (0,)
    """Those that the model is called with, in the order of its arguments."""
    made_bytes: int = 0
    """What constants take that the model makes when called: neither its own tensors nor views of them."""

    def only_output(self, purpose: str) -> int:
        """The one tensor that the model returns.

        Raises:
            UnsupportedError: it returns several.
        """
        if len(self.outputs) != 1:
            raise UnsupportedError(
                f"'model' must return one tensor to be {purpose}: got {len(self.outputs)}; "
                "legal: a model that wraps it and returns one of them"
            )
        return self.outputs[0]


def capture(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int] | None = None,
    prepare: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
) -> Graph:  # fmt: skip
    """``capture_call`` of a model that takes one tensor, of that shape and strides."""
    strides = None if strides is None else tuple(strides)
    return capture_call(model, (Input(tuple(shape), dtype, strides),), {}, prepare)


def capture_call(
    model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any],
    prepare: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
) -> Graph:  # fmt: skip
    """The graph of a call of a model, as it runs without gradients.

    Neither the modes that the caller has entered nor the model have a part in it or are touched: it is a copy
    that runs.

    Args:
        model: any module.
        args, kwargs: what it is called with. Each ``Input`` in a nest of these is an input of the graph;
            tensors are known by their numbers, as weights are.
        prepare: what is done to the copy before it runs, such as ``accelerate``.

    Raises:
        ShapeError: the model does not run at these shapes.
        UnsupportedError: what it does depends on the numbers of its inputs, or on random ones.
    """
    with undisturbed():
        recorder = Recorder()
        leaves, structure = pytree.tree_flatten((tuple(args), dict(kwargs)))
        inputs = {
            place: recorder.input(leaf.shape, leaf.dtype, leaf.strides)
            for place, leaf in enumerate(leaves)
            if isinstance(leaf, Input)
        }
        prepared = prepare(isolated(model, recorder.stand_in))
        given = [
            recorder.stand_in(leaf) if isinstance(leaf, Tensor) else inputs.get(place, leaf)
            for place, leaf in enumerate(leaves)
        ]
        called, named = pytree.tree_unflatten(given, structure)
        try:
            with recorder.naming(prepared), recorder.stand_ins, recorder:
                returned = prepared(*called, **named)
        except UnsupportedError:
            raise
        except Exception as error:
            raise _refusal(model, leaves, error) from error
        return _graph(recorder, returned, len(inputs))


def _graph(recorder: Recorder, returned: Any, count: int) -> Graph:
    """What is used of all that was written down, so many inputs first."""
    flat, structure = pytree.tree_flatten(returned)
    beside = {place: leaf for place, leaf in enumerate(flat) if not isinstance(leaf, Tensor)}
    strange = next((type(leaf).__name__ for leaf in beside.values() if not isinstance(leaf, _PLAIN)), "")
    if strange or len(beside) == len(flat):
        kind = type(returned).__name__
        got = f"{kind} with {strange}" if strange not in ("", kind) else kind
        raise UnsupportedError(
            f"'model' must return tensors: got {got}; legal: a tensor, or tuples, lists and dicts of "
            "tensors, None, numbers and words"
        )
    outputs = [recorder.index(recorder.stand_in(out)) for out in flat if isinstance(out, Tensor)]
    values = recorder.values(_used(recorder.nodes, outputs, ()))
    used = [*range(count), *(index for index in _used(recorder.nodes, outputs, values) if index >= count)]
    places = {index: place for place, index in enumerate(used)}
    return Graph(
        tuple(_placed(recorder.nodes[index], places, index in values) for index in used),
        {places[index]: value for index, value in values.items() if index in places},
        tuple(places[index] for index in outputs),
        Nest(structure, beside),
        tuple(range(count)),
        _made_bytes(recorder.nodes, values, places),
    )


def _made_bytes(nodes: Sequence[Node], values: Mapping[int, Tensor], used: Container[int]) -> int:
    """Of the used ones that an operator made, in memory of their own."""
    made, given = dict[int, int](), set[int]()
    for index, value in values.items():
        room = value.untyped_storage()
        if nodes[index].target is None:
            given.add(room.data_ptr())
        elif index in used:
            made[room.data_ptr()] = room.nbytes()
    return sum(size for place, size in made.items() if place not in given)


def _used(nodes: Sequence[Node], outputs: Sequence[int], known: Container[int]) -> list[int]:
    """The nodes that outputs are made of, in order, but for those that known ones are made of."""
    found, left = set[int](), list(outputs)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left += [] if index in known else nodes[index].sources
    return sorted(found)


def _placed(node: Node, places: Mapping[int, int], known: bool) -> Node:
    """A node whose sources are counted among those that are used; without any where its numbers are known."""
    if known:
        return Node(None, (), {}, (), (), (), node.shape, node.strides, node.dtype, None)

    def put(value: Any) -> Any:
        return Source(places[value.index]) if isinstance(value, Source) else value

    return replace(
        node, args=mapped(put, node.args), sources=tuple(places[index] for index in node.sources),
        kwargs={name: mapped(put, value) for name, value in node.kwargs.items()},
    )  # fmt: skip


def _place(error: Exception) -> str:
    """Where the model's own code was when it failed."""
    found = ""
    for frame, line in walk_tb(error.__traceback__):
        code = frame.f_code
        if not frame.f_globals.get("__name__", "").startswith(("torch.", "outstride.")):
            name = getattr(code, "co_qualname", code.co_name)  # with its class since Python 3.11
            found = f" in {name} ({Path(code.co_filename).name}, line {line})"
    return found


def _refusal(model: torch.nn.Module, leaves: Sequence[Any], error: Exception) -> Exception:
    said = " ".join(str(error).split())[:300]
    if "DataDependent" in type(error).__name__ or "DynamicOutputShape" in type(error).__name__:
        return UnsupportedError(
            "'model' must do the same whatever numbers its input holds: got one that looks at them "
            f"({said}); legal: decisions by size alone"
        )
    if ".numpy() is not supported" in said:  # torch's words to a recorded tensor
        return UnsupportedError(
            f"'model' must compute with functions of torch: got one that calls NumPy{_place(error)}, "
            "of which nothing is known; legal: torch's own functions there"
        )
    shapes = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, (Input, Tensor))]
    got = f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(map(str, shapes))}"
    called = isinstance(error, TypeError) and "argument" in said
    legal = f"what its forward takes, {_signature(model)}" if called else "a shape that the model accepts"
    if called and len(shapes) == 1:
        legal = f"a module around it that takes the source alone, or {legal}"
    return ShapeError(
        f"'model' must run on the source: got {got}, for which it raises "
        f"{type(error).__name__}: {said}" + ("" if "legal: " in said else f"; legal: {legal}")
    )


def _signature(model: torch.nn.Module) -> str:
    """The arguments of a model as its code names them."""
    try:
        parameters = signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # no Python
        return "as its author calls it"
    return f"({', '.join(str(parameter).partition(':')[0] for parameter in parameters)})"
