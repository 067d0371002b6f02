"""What a rewrite costs: multiply-adds, weights and what lies in memory between the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from outstride.convert.strides import to_space_to_depth
from outstride.convert.subpixel import to_subpixel
from outstride.convert.zero_insertion import to_conv
from outstride.errors import ArgumentError, ShapeError
from outstride.layer import arguments as argument
from outstride.layer.spec import ConvSpec
from outstride.models.copying import duplicated
from outstride.models.operators import convolution
from outstride.output.tables import html_table, text_table

HEAD = ("form", "multiply-adds", "times", "weights", "between parts", "largest part", "steps")


@dataclass(frozen=True)
class Form:
    """The cost of one form of a layer or model for one input.

    ``multiply_adds`` are those of its convolutions, products with inserted zeros included. ``weight_bytes``
    holds biases too. ``passing_bytes`` is what its parts hand to each other, written once and read once;
    ``largest_bytes`` the largest of these, and ``steps`` how many parts there are.
    """

    name: str
    multiply_adds: int
    weight_bytes: int
    passing_bytes: int
    largest_bytes: int
    steps: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """The forms of a layer beside each other; the first is the layer itself."""

    layer: str
    input_shape: tuple[int, ...]
    forms: tuple[Form, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers."""
        return {
            "layer": self.layer,
            "input_shape": list(self.input_shape),
            "forms": [asdict(form) for form in self.forms],
        }

    @property
    def _title(self) -> str:
        return f"{self.layer} on {self.input_shape} gives {self.forms[0].output_shape}"

    def _cells(self) -> list[tuple[str, ...]]:
        whole = self.forms[0].multiply_adds or 1
        rows = []
        for form in self.forms:
            sizes = map(_bytes, (form.weight_bytes, form.passing_bytes, form.largest_bytes))
            times = f"{form.multiply_adds / whole:.2f}" if self.forms[0].multiply_adds else "1.00"
            rows.append((form.name, f"{form.multiply_adds:,}", times, *sizes, str(form.steps)))
        return rows

    def __str__(self) -> str:
        lines = text_table([HEAD, *self._cells()], right=range(1, len(HEAD)))
        return "\n".join([self._title, *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        return html_table(self._title, HEAD, self._cells())


def compare(layer: nn.Module, input_shape: Sequence[int]) -> Comparison:
    """Compare what a layer or model costs as it is with what each of its exact rewrites costs.

    Args:
        layer: a convolution of any kind, or a model that holds some.
        input_shape: (N, C, *size), or what the model takes.

    Returns:
        A printable ``Comparison``: the layer itself, with zeros inserted and as sub-pixel
        convolution where it is transposed, and with space-to-depth where it is strided. Nothing is computed:
        shapes are passed through.

    Raises:
        ArgumentError: there is nothing to rewrite, or the shape is none.
        ShapeError: the layer does not take such an input.

    Law: a transposed layer's multiply-adds are its inputs times its weights over its groups; inserting zeros
    multiplies them by about stride for each axis, a sub-pixel form by ceil(window / stride) * stride /
    kernel_size.

    Example:
        >>> found = compare(nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), (1, 8, 16, 16))
        >>> [form.multiply_adds for form in found.forms]
        [131072, 524288, 147968]
    """
    argument.module("layer", layer)
    forms: list[tuple[str, nn.Module]] = [("as it is", layer)]
    forms += [(name, rewrite(layer)) for name, (kinds, rewrite) in _REWRITES.items() if _has(layer, kinds)]
    if len(forms) == 1:
        raise ArgumentError(
            "'layer' must be or hold a transposed or strided convolution: "
            f"got {type(layer).__name__}, which has none; legal: such as ConvTranspose2d"
        )
    shape = argument.shape("input_shape", input_shape, 0)
    text = repr(layer) if not any(True for _ in layer.children()) else type(layer).__name__
    return Comparison(text, shape, tuple(_form(name, form, shape) for name, form in forms))


_REWRITES: dict[str, tuple[tuple[type, ...], Callable[[nn.Module], nn.Module]]] = {
    "zeros inserted": (convolution.TRANSPOSED, to_conv),
    "sub-pixel": (convolution.TRANSPOSED, to_subpixel),
    "space to depth": (convolution.CONVOLUTIONS, to_space_to_depth),
}


def _has(layer: nn.Module, kinds: tuple[type, ...]) -> bool:
    """Whether there is something to rewrite: any transposed layer, or another with a stride."""
    found = [part for part in layer.modules() if isinstance(part, kinds)]
    return bool(found) and (
        kinds == convolution.TRANSPOSED or any(max(ConvSpec.of(part).stride) > 1 for part in found)
    )


@dataclass
class _Tally:
    """Sums kept while shapes pass through."""

    multiply_adds: int = 0
    outputs: list[int] = field(default_factory=list)

    def add(self, part: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        if not isinstance(out, Tensor):
            return
        self.outputs.append(out.numel() * out.element_size())
        weight = getattr(part, "weight", None)
        if isinstance(part, convolution.LAYERS) and isinstance(weight, Tensor):
            # Every input of a transposed layer, and every output of another, meets each element of its
            # kernels.
            met = inputs[0] if isinstance(part, convolution.TRANSPOSED) else out
            self.multiply_adds += met.numel() * weight.shape[1] * prod(weight.shape[2:])


def _form(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Form:
    weights = list(layer.parameters())
    twin = duplicated(layer).to("meta").eval()
    tally = _Tally()
    leaves = [part for part in twin.modules() if not any(True for _ in part.children())]
    hooks = [part.register_forward_hook(tally.add) for part in leaves]
    dtype = next((w.dtype for w in weights if w.is_floating_point()), torch.float32)
    try:
        out = twin(torch.empty(shape, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ShapeError(
            f"'input_shape' must be one that the layer takes: got {shape}; it says: "
            f"{str(error).splitlines()[0]}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    between = tally.outputs[:-1]
    return Form(
        name=name,
        multiply_adds=tally.multiply_adds,
        weight_bytes=sum(w.numel() * w.element_size() for w in weights),
        passing_bytes=sum(between),
        largest_bytes=max(between, default=0),
        steps=len(tally.outputs),
        output_shape=tuple(out.shape) if isinstance(out, Tensor) else (),
    )


def _bytes(count: int) -> str:
    return f"{count / 1024:,.1f} KiB" if count else "0"
