"""What a model does for an input of some size, written down operator by operator as torch runs it.

The model runs on tensors without numbers that say they lie on the CPU, so each of torch's functions takes
the way that it takes there, and each tensor has the strides that it has there. Writes in place become new
tensors: a tensor knows which view of which other it is, so what is written goes up to the tensor that owns
the memory, and other views of it are taken anew when they are read next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from outstride.errors import UnsupportedError
from outstride.models.aliasing import View, pieces, put_back
from outstride.models.call import Call
from outstride.models.layouts import as_torch_lays_it_out
from outstride.models.node import Node, Source
from outstride.models.operation import mapped, named_arguments, operator_name, parameters_of

aten = torch.ops.aten
_NUMBER = aten._local_scalar_dense.default  # noqa: SLF001 - so torch calls it
_CONVERTED = aten._to_copy.default  # noqa: SLF001

#: Elements of a tensor that a model makes of its weights alone; what is larger than that is no weight.
_MOST_OF_WEIGHTS = 1 << 28
#: The same of a tensor made of nothing, such as a row of positions.
_MOST_OF_NOTHING = 1 << 20
#: Elements up to which an operator without a rule for shapes is tried by running it.
_MOST_TRIED = 1 << 22
#: Arguments that say whether an operator that may draw random numbers does.
_DRAWS = ("dropout_p", "train", "training", "p", "dropout")


class Recorder(TorchDispatchMode):
    """Notes every operator as a ``Node``; enter it inside its ``stand_ins``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stand_ins = FakeTensorMode(allow_non_fake_inputs=True)
        self.nodes: list[Node] = []
        self._values: dict[int, Tensor] = {}
        self._of_weights: set[int] = set()
        self._views: dict[int, View] = {}
        self._alive: list[Tensor] = []
        self._standing: dict[int, tuple[Tensor, FakeTensor]] = {}
        self._layers: list[tuple[str, str, bool]] = []
        """Those that run, by their names, their classes and whether they have no others."""

    @contextmanager
    def naming(self, model: torch.nn.Module) -> Iterator[None]:
        """Note the layer of a model that calls an operator."""
        handles: list[Any] = []
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):  # which has no hooks of its own
                handles.append(module.register_forward_pre_hook(partial(self._enter, name)))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, module: torch.nn.Module, args: Any) -> None:
        del args
        is_leaf = next(module.children(), None) is None
        self._layers.append((name, type(module).__name__, is_leaf))

    def _leave(self, module: torch.nn.Module, args: Any, result: Any) -> None:
        del module, args, result
        if self._layers:
            self._layers.pop()

    def input(self, shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int] | None = None) -> Tensor:
        """What the model is called with; without strides in order."""
        with self.stand_ins:
            made = torch.empty(tuple(shape), dtype=dtype, device="cpu")
            if strides is not None:
                made = torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype, device="cpu")
        self._begin(made, self._add(None, (), {}, made))
        return made

    def stand_in(self, tensor: Tensor) -> Tensor:
        """A tensor without numbers in the place of one that has some, the same each time."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if id(tensor) not in self._standing:
            with unset_fake_temporarily():
                value = tensor.detach()
            made = self.stand_ins.from_tensor(tensor)
            self._standing[id(tensor)] = tensor, made
            index = self._add(None, (), {}, made)
            self._values[index] = value
            self._of_weights.add(index)
            self._begin(made, index)
        return self._standing[id(tensor)][1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator without numbers and write it down."""
        del types
        args, kwargs = pytree.tree_map_only(Tensor, self.stand_in, (args, dict(kwargs or {})))
        if func is _NUMBER:
            return self._number(args[0])
        self._check_not_random(func, args, kwargs)
        written = _written(func, args, kwargs)
        self.stand_ins.allow_fallback_kernels = all(
            tensor.numel() <= _MOST_TRIED
            for tensor in pytree.tree_leaves((args, kwargs))
            if isinstance(tensor, Tensor)
        )
        result = func(*args, **kwargs)
        if written:
            return self._write(func, args, kwargs, written)
        result = as_torch_lays_it_out(func, args, kwargs, result)
        if _is_view(func):
            return self._view(func, args, kwargs, result)
        tensors = pytree.tree_leaves(result)
        several = len(func._schema.returns) > 1 or not isinstance(result, Tensor)  # noqa: SLF001 - torch has no other
        for place, tensor in enumerate(tensors):
            if isinstance(tensor, Tensor):
                self._begin(tensor, self._note(func, args, kwargs, tensor, place if several else None))
        return result

    # What torch says of an operator.
    def _check_not_random(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return
        named = named_arguments(func, args, kwargs)
        switches = [parameter for parameter in parameters_of(func) if parameter.name in _DRAWS]
        if not switches or any(named.get(switch.name, switch.default_value) for switch in switches):
            raise UnsupportedError(
                f"'model' must do the same at every call: got one that draws random numbers by "
                f"{operator_name(func)}; legal: a model that draws none, as in inference mode"
            )

    def _number(self, tensor: Tensor) -> Any:
        """A number that the model's code asks for: known if it does not depend on the input."""
        value = self.value(self.index(tensor))
        if value is None:
            raise UnsupportedError(
                "'model' must do the same whatever numbers its input holds: got one that looks at them "
                "(a tensor's number, asked for by its code); legal: decisions by size alone"
            )
        with unset_fake_temporarily():
            return value.item()

    # Which node a tensor is.
    def index(self, tensor: Tensor) -> int:
        """The node that holds what a tensor holds now."""
        return self._current(self._view_of(tensor))

    def _view_of(self, tensor: Tensor) -> View:
        view = self._views.get(id(tensor))
        if view is None or not view.is_of(tensor):
            # Another memory was put below it, as by ``weight.data = other``.
            view = next((v for v in reversed(self._views.values()) if v.is_of(tensor)), None)
            if view is None or view.tensor.dtype != tensor.dtype:
                raise UnsupportedError(
                    "'model' must make its tensors by torch's operators: got one of "
                    f"{tuple(tensor.shape)} that none made; legal: such tensors as weights or buffers"
                )
            self._known(tensor, view)
        return view

    def _known(self, tensor: Tensor, view: View) -> None:
        self._views[id(tensor)] = view
        self._alive.append(tensor)  # so that its id is not another's

    def _begin(self, tensor: Tensor, index: int) -> None:
        self._known(tensor, View(tensor, index))

    def _current(self, view: View) -> int:
        if view.is_stale:
            assert view.parent is not None
            assert view.take is not None
            view.settle(view.take(self._current(view.parent)))
        return view.index

    # Nodes.
    def _note(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        like: Tensor,
        result: int | None = None,
    ) -> int:
        """The node of an operator on tensors."""

        def put(value: Any) -> Any:
            return Source(self.index(value)) if isinstance(value, Tensor) else value

        named = {name: mapped(put, value) for name, value in kwargs.items()}
        return self._add(func, tuple(mapped(put, arg) for arg in args), named, like, result)

    def _add(
        self,
        target: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        like: Tensor,
        result: int | None = None,
    ) -> int:
        """A node of the size and strides of a tensor."""
        found = dict.fromkeys(v.index for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Source))
        sources = tuple(found)
        layer, kind, is_leaf = self._layers[-1] if self._layers else ("", "", False)
        self.nodes.append(Node(
            target, args, kwargs, sources, tuple(self.nodes[i].shape for i in sources),
            tuple(self.nodes[i].strides for i in sources),
            tuple(like.shape), like.stride(), like.dtype, result,
            layer=layer, layer_class=kind, is_layer=is_leaf,
        ))  # fmt: skip
        if not self._of_weights.isdisjoint(sources):
            self._of_weights.add(len(self.nodes) - 1)
        return len(self.nodes) - 1

    # Views and writes.
    def _view(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
        parent = self._view_of(args[0])
        views = [result] if isinstance(result, Tensor) else list(result)
        call = Call(func, tuple(args), kwargs, tuple(views))
        for piece, tensor in zip(pieces(call), views, strict=True):
            self._known(tensor, self._viewed(tensor, parent, *piece))
        return result

    def _viewed(
        self, tensor: Tensor, parent: View, target: Any, rest: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> View:
        def take(index: int) -> int:
            return self._add(target, (Source(index), *rest), kwargs, tensor)

        def back(whole: int, part: int) -> int:
            way = put_back(target, rest, kwargs, parent.tensor)
            sources = (Source(whole), Source(part)) if way.of_both else (Source(part),)
            return self._add(way.target, (*sources, *way.rest), {}, parent.tensor)

        return View(tensor, take(self._current(parent)), parent, take, back)

    def _write(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], written: Sequence[Tensor]
    ) -> Any:
        """An operator that writes to its first argument, as one that makes a new tensor."""
        twin = _twin(func)
        if len(written) != 1 or written[0] is not args[0] or twin is None:
            raise UnsupportedError(
                f"'model' must write by operators that have a form that does not: got {func}; "
                "legal: another operator, such as one without out="
            )
        target = args[0]
        if torch.Tag.inplace_view in func.tags:
            before = self._views[id(target)]
            self._known(target, self._viewed(target, before, twin, args[1:], kwargs))
            return target
        view, index = self._view_of(target), self._note(twin, args, kwargs, target)
        made = twin(*args, **kwargs)
        if made.dtype != target.dtype:
            self.nodes[index] = replace(self.nodes[index], dtype=made.dtype)
            index = self._add(_CONVERTED, (Source(index),), {"dtype": target.dtype}, target)
        changed = [(view, index)]
        while view.parent is not None:
            assert view.back is not None
            index = view.back(self._current(view.parent), index)
            view = view.parent
            changed.append((view, index))
        view.written()
        for view, index in changed:
            view.settle(index)
        return target

    # Numbers that do not depend on the input.
    def value(self, index: int) -> Tensor | None:
        """The numbers of a tensor, None if they depend on the input, or if there are too many."""
        wanted, left = set[int](), [index]
        while left:
            at = left.pop()
            if at not in wanted and at not in self._values:
                if not self._is_constant(at):
                    return None
                wanted.add(at)
                left += self.nodes[at].sources
        with unset_fake_temporarily():
            for at in sorted(wanted):
                node = self.nodes[at]
                self._values[at] = node.call([self._values[i] for i in node.sources])
        return self._values[index]

    def _is_constant(self, index: int) -> bool:
        node = self.nodes[index]
        most = _MOST_OF_WEIGHTS if index in self._of_weights else _MOST_OF_NOTHING
        return node.target is not None and prod(node.shape) <= most

    def values(self, indices: Sequence[int]) -> dict[int, Tensor]:
        """Those of all these tensors that have some."""
        found: dict[int, Tensor] = {}
        for index in indices:
            sources = self.nodes[index].sources
            if all(source in found or source in self._values for source in sources):
                value = self.value(index)
                if value is not None:
                    found[index] = value
        return found


def _twin(func: Any) -> Any:
    """The operator that returns what one with an underscore writes."""
    name = operator_name(func).removeprefix("aten.")
    if not name.endswith("_"):
        return None
    packet = getattr(aten, name.removesuffix("_"), None)
    overloads = () if packet is None else [getattr(packet, found) for found in packet.overloads()]
    return next((found for found in overloads if _parameters(found) == _parameters(func)), None)


def _parameters(func: Any) -> list[tuple[str, str]]:
    return [(parameter.name, str(parameter.type)) for parameter in parameters_of(func)]


def _is_view(func: Any) -> bool:
    returned = [entry.alias_info for entry in func._schema.returns]  # noqa: SLF001 - torch has no other
    return any(alias is not None and not alias.is_write for alias in returned)


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that an operator writes to."""
    found = []
    named = named_arguments(func, args, kwargs)
    for parameter in parameters_of(func):
        if parameter.alias_info is not None and parameter.alias_info.is_write:
            value = named.get(parameter.name)
            if isinstance(value, Tensor):
                found.append(value)
    return found
