"""Strides as torch's CPU has them: while a graph is traced, its tensors lie as those that come later.

Torch's tracer gives axes of size 1 other strides than its operators do. They hold no element, yet torch
reads the memory format from them: pixels of one image that went through a linear layer are contiguous where
they are computed and channels_last where they are traced, and all that comes later would be laid out, and
added up, in another order than without a tracer. What kernels of this package make lies as it was traced,
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torch._dispatch.python import no_python_dispatcher
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from outstride.compilation.stages import Bound, Stage
from outstride.compilation.values import same_sizes
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch
from outstride.models.layouts import ALWAYS, as_torch_lays_it_out


@contextmanager
def torchs_strides(inputs: Sequence[Any]) -> Iterator[None]:
    """Within, what is traced of inputs like these has the strides that it has when it is computed.

    Where they are not traced yet, the tracer is still to come, and any tracer does so.
    """
    mode: Any = detect_fake_mode(inputs)
    owner: Any = FakeTensorMode if mode is None else mode
    dispatch = owner.dispatch
    if mode is not None:
        owner.dispatch = partial(_laid_out, mode, dispatch)
    else:
        owner.dispatch = lambda mode, *given: _laid_out(mode, partial(dispatch, mode), *given)
    try:
        yield
    finally:
        if mode is not None:
            del owner.dispatch
        else:
            owner.dispatch = dispatch


def _laid_out(
    mode: Any, dispatch: Callable[..., Any], func: Any, types: Any, args: Sequence[Any] = (),
    kwargs: Any = None,
) -> Any:  # fmt: skip
    """What a tracer makes of an operator, as torch's CPU lays it out."""
    result = dispatch(func, types, args, kwargs or {})
    if not _may_differ(func, result):
        return result
    with mode, no_python_dispatcher():  # which would ask the tracer's own kernels again
        return as_torch_lays_it_out(func, args, kwargs or {}, result)


def _may_differ(func: Any, result: Any) -> bool:
    """Whether a value is new, or a view, and has an axis of size 1, or torch's tracer always mistakes it."""
    first = next(iter(pytree.tree_leaves(result)), None)
    return (
        isinstance(first, Tensor) and first.device.type == "cpu" and not func._schema.is_mutable  # noqa: SLF001
        and (func in ALWAYS or any(same_sizes((size,), (1,)) for size in first.shape))
    )  # fmt: skip


def as_traced(stage: Stage) -> Stage:
    """The stage with a value that lies as its graph says, where that has axes of size 1."""
    traced, bind = stage.output.meta.get("val"), stage.bind
    if not stage.takes_out or not isinstance(traced, Tensor):
        return stage
    strides = _of_single(traced)
    if not strides:
        return stage

    def run(*values: Any, out: Tensor | None = None) -> Any:
        return _with(stage.run(*values), strides) if out is None else stage.run(*values, out=out)

    if bind is None:
        return replace(stage, run=run)

    def bound(values: Sequence[Any], like: Any) -> Bound:
        found = bind(values, like)
        if like is not None and like.device.type != "meta":
            return found  # there is a place for it, which lies so

        def made(*values: Any, out: Tensor | None = None) -> Any:
            return _with(found.run(*values), strides) if out is None else found.run(*values, out=out)

        def launch(at: Sequence[At], y: At) -> Launch | None:
            launched = found.launch(at, y)
            if launched is None or launched.empty is None:
                return launched
            return replace(launched, empty=fresh_result(y.tensor.shape, y.tensor.stride(), y.tensor.dtype))

        return Bound(made, launch)

    return replace(stage, run=run, bind=bound)


def _of_single(traced: Tensor) -> dict[int, int | tuple[int]]:
    """Of axes of size 1 their strides: a number, or the axis that lies, as a whole, within one step."""
    found = dict[int, int | tuple[int]]()
    lying: list[tuple[Any, Any]] = list(zip(traced.shape, traced.stride(), strict=True))
    for axis, (size, stride) in enumerate(lying):
        if not isinstance(size, int) or size != 1:
            continue
        if isinstance(stride, int):
            found[axis] = stride
            continue
        inner = (i for i, (n, s) in enumerate(lying) if i != axis and same_sizes((stride,), (n * s,)))
        place = next(inner, None)
        if place is not None:
            found[axis] = (place,)
    return found


def _with(value: Tensor, single: Mapping[int, int | tuple[int]]) -> Tensor:
    """A value with such strides along axes of size 1."""
    found, strides = value.stride(), list(value.stride())
    for axis, stride in single.items():
        strides[axis] = stride if isinstance(stride, int) else value.shape[stride[0]] * found[stride[0]]
    return value if tuple(strides) == found else value.as_strided(value.shape, strides)
