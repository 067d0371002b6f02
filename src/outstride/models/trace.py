"""What a model does for an input: every operation with its tensors, found by running it without numbers.

The model runs on torch's meta device, where tensors have a shape and nothing else, while a dispatch mode
notes each operation. Against a graph that is captured ahead (torch.export, fx) this needs no guards, refuses
no Python in ``forward`` that depends on sizes, and takes milliseconds, so that a model can be run again at a
hundred other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from outstride.errors import ShapeError, UnsupportedError
from outstride.models.call import Call, tensors
from outstride.models.copying import inferring, isolated
from outstride.models.isolation import undisturbed
from outstride.models.operators import convolution, norms, padding, products, recurrent

#: Layers to be taken as one even where parametrisations hang below them.
_WHOLE_LAYERS = (convolution.FAMILY, products.LAYER, recurrent.LAYER)


@dataclass
class Layer:
    """One call of a module: its name, the module, what went in and what came out."""

    name: str
    module: torch.nn.Module
    parent: int
    leaf: bool
    first: int
    """Index of its first operation in ``Trace.calls``, which end before ``last``."""
    last: int = -1
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


@dataclass
class Trace:
    """A run: the operations in order, the calls of modules in order, what went in and what came out."""

    input: Tensor
    calls: list[Call] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    outputs: tuple[Tensor, ...] = ()


class _Tracer(TorchDispatchMode):
    def __init__(self, trace: Trace, stack: list[int], wrapping: list[bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trace, self._stack, self._wrapping = trace, stack, wrapping

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        first = args[0] if args and isinstance(args[0], Tensor) else None
        before = None if first is None else first.shape
        result = func(*args, **(kwargs or {}))
        if first is not None and first.shape != before:
            name = str(func).removeprefix("aten.").partition(".")[0]
            raise UnsupportedError(
                f"'model' must leave the shapes of its tensors as they are: got {name}, which changes one in "
                f"place; legal: {name.removesuffix('_')}, which returns another"
            )
        where = self._stack[-1] if self._stack else -1
        made = tuple(tensors(result))
        self._trace.calls.append(Call(func, args, dict(kwargs or {}), made, where, bool(self._wrapping)))
        return result


class _CircularPadding(TorchFunctionMode):
    """Turns a circular padding into one operation: torch writes it in pieces, into a tensor made for it."""

    def __init__(self, wrapping: list[bool]) -> None:
        super().__init__()
        self._wrapping = wrapping

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        read = padding.FUNCTIONS.get(func)
        arguments = {} if read is None else read.arguments(args, kwargs or {})
        if arguments.get("mode") == "circular":
            self._wrapping.append(True)
            try:
                return func(arguments["input"], arguments["pad"])
            finally:
                self._wrapping.pop()
        return func(*args, **(kwargs or {}))


class _WithoutBatchNorms(TorchFunctionMode):
    """Leaves batch norms out where only shapes are wanted: without numbers they take most of the time."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        read = norms.FUNCTIONS.get(func)
        if read is not None:
            arguments = read.arguments(args, kwargs or {})
            source, mean = arguments["input"], arguments["running_mean"]
            if not arguments["training"] and mean is not None and mean.shape == source.shape[1:2]:
                return source
        return func(*args, **(kwargs or {}))


class _Refusal(TorchFunctionMode):
    """Refuses inputs smaller than a kernel, as torch does of numbers: without, older ones let them pass."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if func in convolution.FORWARD_FUNCTIONS:
            weight = convolution.FUNCTIONS[func].arguments(args, kwargs or {})["weight"]
            if 0 in result.shape[2 - weight.dim() :]:
                raise RuntimeError(f"the input is smaller than a kernel of {tuple(weight.shape[2:])}")
        return result


class Runner:
    """A copy of a model that can be run at any shape, where possible without weights and arithmetic."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype, arguments: Mapping[str, Any]) -> None:
        self.device = "meta"
        self._original, self._dtype, self._further = model, dtype, arguments
        self._move()

    @undisturbed()
    def _move(self) -> None:
        self.model = inferring(isolated(self._original, partial(_on, device=self.device)))
        self._arguments = {name: _on(value, self.device) for name, value in self._further.items()}

    def shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
        """Shapes of all outputs for an input of that shape; None where the model refuses it."""
        try:
            with undisturbed(), _usual_algorithms(), torch.device(self.device), ExitStack() as context:
                if self.device == "meta":
                    context.enter_context(_WithoutBatchNorms())
                    context.enter_context(_Refusal())
                result = self.model(self._input(shape), **self._arguments)
        except Exception:  # noqa: BLE001 - models refuse sizes with any exception: that is the answer here
            return None
        return tuple(tuple(tensor.shape) for tensor in tensors(result))

    def trace(self, shape: Sequence[int]) -> Trace:
        """Run once and note everything.

        A model that looks at numbers to decide what to do is run on zeros instead, with its weights.

        Raises:
            ShapeError: the model does not run at this shape.
        """
        try:
            return self._trace(shape)
        except Exception as error:
            # What torch cannot do without numbers it may refuse in any way; a model that has none stays so.
            if any(tensor.is_meta for tensor in (*self._original.parameters(), *self._original.buffers())):
                raise ShapeError(_refusal(shape, error)) from error
            self.device = "cpu"
            self._move()
        try:
            return self._trace(shape)
        except UnsupportedError:
            raise
        except Exception as error:
            raise ShapeError(_refusal(shape, error)) from error

    def _trace(self, shape: Sequence[int]) -> Trace:
        source = self._input(shape)
        trace, stack, wrapping = Trace(source), list[int](), list[bool]()
        with ExitStack() as context:
            context.enter_context(undisturbed())
            context.enter_context(_usual_algorithms())
            context.enter_context(torch.device(self.device))
            context.enter_context(_watched(self.model, trace, stack))
            context.enter_context(_Refusal())
            context.enter_context(_CircularPadding(wrapping))
            context.enter_context(_Tracer(trace, stack, wrapping))
            result = self.model(source, **self._arguments)
        trace.outputs = tuple(tensors(result))
        return trace

    def _input(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(tuple(shape), dtype=self._dtype, device=self.device)


@contextmanager
def _usual_algorithms() -> Iterator[None]:
    """Operators as on the CPU: elsewhere torch writes some in pieces where they are to be deterministic."""
    wanted = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(wanted, warn_only=warns)


def _refusal(shape: Sequence[int], error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return (
        f"'model' must run at 'input_shape': got {tuple(shape)}, for which it raises {type(error).__name__}: "
        f"{said}"
        + ("" if "legal: " in said else "; legal: a shape that it accepts, and further inputs in 'arguments'")
    )


@contextmanager
def _watched(model: torch.nn.Module, trace: Trace, stack: list[int]) -> Iterator[None]:
    names = {id(module): name for name, module in model.named_modules()}
    handles: list[Any] = []

    def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parent = stack[-1] if stack else -1
        leaf = isinstance(module, _WHOLE_LAYERS) or not any(True for _ in module.children())
        stack.append(len(trace.layers))
        inputs = tuple(tensors((args, kwargs)))
        trace.layers.append(Layer(names[id(module)], module, parent, leaf, len(trace.calls), inputs=inputs))

    def leave(_: torch.nn.Module, __: tuple[Any, ...], result: Any) -> None:
        layer = trace.layers[stack.pop()]
        layer.last, layer.outputs = len(trace.calls), tuple(tensors(result))

    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _on(value: Any, device: str) -> Any:
    """A tensor of our own, on the meta device without numbers."""
    if not isinstance(value, Tensor):
        return value
    made = torch.empty_like(value, device=device) if device == "meta" else value.detach().to(device).clone()
    return torch.nn.Parameter(made, requires_grad=False) if isinstance(value, torch.nn.Parameter) else made
