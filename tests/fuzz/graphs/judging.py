"""The law of a compiled model: bits and strides of the accelerated one, on every call, and no other trace."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import outstride
import outstride.compilation.running
from outstride.compilation.arena import Arena
from outstride.compilation.backend import Options
from tests.fuzz.graphs.drawing import Graph, Played, build
from tests.fuzz.graphs.tracing import by_torch, traced
from tests.guard import GuardedPages
from tests.tolerance import assert_equal_values, assert_same_bits

#: The first notes what is made, the others are in an arena.
_CALLS = 4
_ARENAS: Any = outstride.compilation.running._Arenas
_USUAL = Options()
#: As torch's memory is aligned: by its routines for matrices the same numbers elsewhere have other bits.
_ALIGNMENT_BYTES = 64
Run = Callable[..., Any]
Placed = Callable[[Tensor], Tensor]
"""The same tensor in the memory where a compiled model finds it."""


def judge(graph: Graph) -> bool:
    """Play a graph and raise AssertionError where a law is broken.

    Returns:
        Whether it was played: what the model itself refuses breaks no law.
    """
    with graph.environment.entered(), _poisoned(), ExitStack() as stack:
        pages = stack.enter_context(GuardedPages(_ALIGNMENT_BYTES)) if graph.guarded else None
        place: Placed = _where_it_is if pages is None else lambda t: pages.copy(t, "end")
        played = build(graph)
        try:
            return _judge(graph, played, place)
        except AssertionError as wrong:
            if _is_torchs(graph, place):
                return False
            raise AssertionError(f"{wrong}\n{_text(played)}") from wrong
        except Exception as raised:
            raise AssertionError(f"raised {type(raised).__name__}: {raised}\n{_text(played)}") from raised


def _where_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _is_torchs(graph: Graph, place: Placed) -> bool:
    """Whether the law is broken by what torch makes of the graph before the backend sees it."""
    try:
        _judge(graph, build(graph), place, None)
    except AssertionError:
        return True
    return False


def _judge(graph: Graph, played: Played, place: Placed, options: Options | None = _USUAL) -> bool:
    model, plain = played.model, copy.deepcopy(played.model)
    served = outstride.accelerate(plain)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = place(tensor.data)
    kept = list[tuple[Any, list[Tensor]]]()
    fast: Run | None = None
    with torch.enable_grad() if played.is_trained else torch.no_grad():
        for time in range(_CALLS):
            more = (time // 2) * 2 if graph.way == "dynamic" else 0
            given, same = list(map(place, played.inputs(time, more))), played.inputs(time, more)
            try:
                expected = _step(played, served, plain, same, time)
            except (RuntimeError, ValueError, IndexError):
                return False
            if played.is_trained:
                for tensor in given:
                    tensor.requires_grad_()
            if fast is None:
                fast = _compiled(graph, played, given, options)
            found = _step(played, fast, model, given, time)
            _assert_same(found, expected, f"call {time + 1}")
            _assert_same(given, same, f"inputs after call {time + 1}")
            kept.append((found, [leaf.detach().clone() for leaf in pytree.tree_leaves(found)]))
    for time, (found, before) in enumerate(kept):
        _assert_same(found, before, f"results of call {time + 1} after the others", strides=False)
    _assert_same(list(model.state_dict().values()), list(plain.state_dict().values()), "state")
    return True


def _step(played: Played, run: Run, owner: nn.Module, inputs: list[Tensor], time: int) -> Any:
    """The results of a call; in training all gradients, too."""
    torch.manual_seed(time)
    cast = torch.autocast("cpu", torch.bfloat16) if played.autocast else nullcontext()
    if not played.is_trained:
        with cast:
            return run(*inputs)
    for tensor in inputs:
        tensor.requires_grad_()
    owner.zero_grad()
    found = run(*inputs)
    for leaf in inputs:
        leaf.grad = None
    derived = [leaf for leaf in pytree.tree_leaves(found) if leaf.requires_grad]
    if derived:
        directions = [torch.linspace(-1, 1, leaf.numel()).to(leaf.dtype).view(leaf.shape) for leaf in derived]
        torch.autograd.backward(derived, directions)
    gradients = [tensor.grad for tensor in (*inputs, *owner.parameters())]
    return [found, [torch.zeros(0) if g is None else g.clone() for g in gradients]]


def _compiled(graph: Graph, played: Played, inputs: list[Tensor], options: Options | None) -> Run:
    if graph.way == "traced":
        with torch.autocast("cpu", torch.bfloat16) if played.autocast else nullcontext():
            return traced(played.model, inputs, options)
    torch._dynamo.reset()
    backend = "outstride" if options is not None else by_torch
    run: Run = torch.compile(played.model, backend=backend, dynamic=graph.way == "dynamic")
    return run


def _assert_same(found: Any, expected: Any, what: str, *, strides: bool = True) -> None:
    """Every tensor of two nests has the same bits, and lies in the same way."""
    a, b = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(a) == len(b), f"{what}: {len(a)} results are not {len(b)}"
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        name = f"{what}, tensor {number}"
        if x.is_floating_point():
            assert_same_bits(x, y, name)
        else:
            assert_equal_values(x, y, name)
        assert not strides or _lie_alike(x, y), f"{name}: strides {x.stride()} are not {y.stride()}"


def _lie_alike(a: Tensor, b: Tensor) -> bool:
    """Whether strides are equal; that of an axis of one says nothing."""
    return not a.numel() or all(
        s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True) if n > 1
    )


def _text(played: Played) -> str:
    of = f"{played.dtype}, {'training' if played.is_trained else 'inference'}"
    cast = ", autocast" if played.autocast else ""
    shapes = " and ".join(f"{s} {l}" for s, l in zip(played.shapes, played.layouts, strict=True))
    return f"{of}{cast}, on {shapes}:\n{played.model.text()}"


@contextmanager
def _poisoned() -> Iterator[None]:
    """Within the block arenas are full of NaN before each call."""
    take = _ARENAS.take

    def full_of_nan(arenas: Any, key: Any) -> Arena | None:
        arena: Arena | None = take(arenas, key)
        if arena is not None:
            room = arena._buffer
            ctypes.memset(room.data_ptr(), 0xFF, room.nbytes)
        return arena

    with mock.patch.object(_ARENAS, "take", full_of_nan):
        yield
