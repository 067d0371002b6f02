"""Turn the words LAYER and SIZE of a command into the package's own objects."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch.nn import Module

    from outstride.layer.spec import ConvSpec

#: Elements of eight bytes that have addresses.
_MOST_WEIGHTS = (1 << 60) - 1

LayerText = Annotated[
    str, typer.Argument(metavar="LAYER", help="As torch writes it: 'Conv2d(3, 64, 3, padding=1)'.")
]


def read_layer(text: str, argument: str = "LAYER") -> ConvSpec:
    """The layer's description, parsed and never evaluated."""
    from outstride.layer.spec import ConvSpec

    return ConvSpec.parse(text, argument)


def read_size(text: str, spec: ConvSpec, argument: str) -> tuple[int, ...]:
    """One number for each axis; a single number stands for every axis."""
    from outstride.bench.cases import parse_size
    from outstride.errors import ArgumentError

    size = parse_size(text, argument)
    if len(size) == 1:
        size *= spec.nd
    if len(size) != spec.nd:
        axes = "axis" if spec.nd == 1 else "axes"
        raise ArgumentError(
            f"'{argument}' must have one number for each of the layer's {spec.nd} {axes}: got {text!r}."
        )
    return size


def read_built(text: str, argument: str = "LAYER", options: Collection[str] = ()) -> ConvSpec:
    """The description of a layer that is built: what it leaves out, which sizes do not need, is refused.

    ``options`` are those of them that the command takes beside the layer.
    """
    from outstride.errors import ArgumentError
    from outstride.layer.notation import read_call

    spec = read_layer(text, argument)
    for name, written in read_call(text, argument).left_out.items():
        if written not in ("None", "False"):
            value = written.rpartition(".")[2].strip("'")
            instead = f"--{name} {value}" if name in options else "left out"
            raise ArgumentError(
                f"{name!r} must be left out of {argument!r}, where it has no effect: got {name}={written}; "
                f"legal: {instead}"
            )
    return spec


def build_layer(spec: ConvSpec, dtype: str) -> Module:
    """The layer itself with every option that outstride's own classes have, but no memory for its weights."""
    import torch

    from outstride.errors import ArgumentError
    from outstride.nn.building import built

    if spec.is_pool or spec.in_channels is None or spec.out_channels is None:
        raise ArgumentError(
            f"'LAYER' must be a conv or conv_transpose with in_channels and out_channels: got {spec!r}."
        )
    weights = spec.in_channels * spec.out_channels // spec.groups * prod(spec.kernel_size)
    if max(weights, spec.in_channels, spec.out_channels, *spec.kernel_size) > _MOST_WEIGHTS:
        raise ArgumentError(
            f"'LAYER' must have weights that fit in an address space: got {weights} of them; "
            f"legal: at most {_MOST_WEIGHTS}"
        )
    return built(spec, getattr(torch, dtype), "meta")
