"""`outstride size`: the arithmetic of a layer's sizes, in both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outstride.cli.layer import LayerText, read_layer, read_size
from outstride.cli.screen import print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from outstride.layer.spec import ConvSpec

Size = tuple[int, ...]


def size(
    layer: LayerText,
    input_size: Annotated[
        str, typer.Argument(metavar="[SIZE]", help="Input size such as 7x7; one number for every axis.")
    ] = "",
    output: Annotated[str, typer.Option(help="Find the input sizes that give this output size.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Print the output size of a layer with its arithmetic, or the input sizes that give an output size.

    Example:

    outstride size "ConvTranspose2d(64, 32, 4, stride=2, padding=1)" 7x7 --output 14x14
    """
    from outstride.errors import ArgumentError
    from outstride.geometry import legal_output_padding
    from outstride.geometry.in_torch import torch_refuses

    spec = read_layer(layer)
    if not input_size and not output:
        raise ArgumentError("'SIZE' or '--output' must be given: got neither; legal: 7x7 or --output 14x14.")
    content: dict[str, Any] = {"layer": repr(spec), "not_in_torch": torch_refuses(spec)}
    if spec.kind == "conv_transpose":
        content["legal_output_padding"] = [_ends(values) for values in legal_output_padding(spec)]
    if input_size:
        with typed(input_size="SIZE"):
            content |= _forward(spec, read_size(input_size, spec, "SIZE"))
    if output:
        with typed(output_size="--output"):
            content |= _backward(spec, read_size(output, spec, "--output"))
    if as_json:
        print_json(content)
    else:
        print("\n".join(_lines(content)))


def _forward(spec: ConvSpec, size: Size) -> dict[str, Any]:
    from outstride.geometry import output_size, resolved_padding

    out, padding = output_size(spec, size), resolved_padding(spec, size)
    arithmetic = [
        _arithmetic(spec, axis, *numbers) for axis, numbers in enumerate(zip(size, out, padding, strict=True))
    ]
    return {"input_size": size, "output_size": out, "padding": padding, "arithmetic": arithmetic}


def _arithmetic(spec: ConvSpec, axis: int, size: int, out: int, padding: tuple[int, int]) -> str:
    s, d, k = spec.stride[axis], spec.dilation[axis], spec.kernel_size[axis]
    low, high = padding
    if spec.padding == "same":
        return f"{size} * {s} = {out}" if spec.kind == "conv_transpose" else f"ceil({size} / {s}) = {out}"
    if spec.kind == "conv_transpose":
        more = spec.output_padding[axis]
        return f"({size} - 1) * {s} - {low} - {high} + {d} * ({k} - 1) + {more} + 1 = {out}"
    over = size + low + high - d * (k - 1) - 1
    rounding = "ceil" if spec.ceil_mode else "floor"
    dropped = " - 1" if spec.ceil_mode and -(-over // s) + 1 > out else ""
    return f"{rounding}(({size} + {low} + {high} - {d} * ({k} - 1) - 1) / {s}) + 1{dropped} = {out}"


def _backward(spec: ConvSpec, wanted: Size) -> dict[str, Any]:
    from outstride.geometry import input_sizes, legal_output_padding

    found = input_sizes(spec, wanted)
    content: dict[str, Any] = {"wanted_output_size": wanted, "input_sizes": [_ends(axis) for axis in found]}
    if not all(found) and spec.kind == "conv_transpose":
        # Each axis is on its own: the first output_padding that serves it is the one to name.
        choices = []
        for axis, legal in enumerate(legal_output_padding(spec)):
            tried = (replace(spec, output_padding=_put(spec.output_padding, axis, more)) for more in legal)
            choices.append(
                next((t.output_padding[axis] for t in tried if input_sizes(t, wanted)[axis]), None)
            )
        if None not in choices:
            content["output_padding_that_gives_it"] = choices
            other = replace(spec, output_padding=tuple(choice or 0 for choice in choices))
            content["input_sizes_then"] = [_ends(axis) for axis in input_sizes(other, wanted)]
    return content


def _put(values: Size, axis: int, value: int) -> Size:
    return (*values[:axis], value, *values[axis + 1 :])


def _ends(values: range) -> dict[str, int] | None:
    return {"first": values[0], "last": values[-1]} if values else None


def _lines(content: dict[str, Any]) -> list[str]:
    lines = [content["layer"]]
    if "output_size" in content:
        lines.append(f"input {_times(content['input_size'])} -> output {_times(content['output_size'])}")
        lines += [f"  axis {axis}: {text}" for axis, text in enumerate(content["arithmetic"])]
        pads = ", ".join(f"{low} and {high}" for low, high in content["padding"])
        lines.append(f"padding low and high: {pads}")
    lines += [f"not in torch: {reason}" for reason in content["not_in_torch"]]
    if "legal_output_padding" in content:
        legal = ", ".join(map(_span, content["legal_output_padding"]))
        lines.append(f"legal output_padding: {legal}")
    if "input_sizes" in content:
        wanted = _times(content["wanted_output_size"])
        spans = " x ".join(map(_span, content["input_sizes"]))
        lines.append(f"input sizes that give {wanted}: {spans}")
    if "input_sizes_then" in content:
        spans = " x ".join(map(_span, content["input_sizes_then"]))
        choice = tuple(content["output_padding_that_gives_it"])
        lines.append(f"with output_padding={choice}: {spans}")
    return lines


def _times(size: Size) -> str:
    return "x".join(map(str, size))


def _span(ends: dict[str, int] | None) -> str:
    if ends is None:
        return "none"
    return str(ends["first"]) if ends["first"] == ends["last"] else f"{ends['first']}..{ends['last']}"
