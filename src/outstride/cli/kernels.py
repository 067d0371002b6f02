"""`outstride kernels`: the learned kernels of a saved model as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outstride.cli.options import check_out
from outstride.cli.screen import console, print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from torch import Tensor

SCALES = ("kernel", "layer")


def kernels(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|MODEL",
            help="A saved state_dict (.pt, .pth, .safetensors), or a factory: package.module:callable.",
        ),
    ],
    layer: Annotated[str, typer.Option(help="Name of the layer; the first convolution by default.")] = "",
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .gif or .webp.")] = Path("kernels.png"),
    columns: Annotated[int | None, typer.Option(min=1, help="Tiles beside each other.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Kernels to show at most.")] = 256,
    scale: Annotated[
        str, typer.Option(help="What black and white stand for: kernel (each by itself) or layer.")
    ] = "kernel",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Draw the learned kernels of a layer; a file is read without running anything in it.

    Example:

    outstride kernels model.pt --layer features.0 --out first-layer.png
    """
    from outstride.pictures.kernel_grid import FORMATS
    from outstride.pictures.kernel_grid import kernels as draw

    check_out(out, FORMATS)
    found = _layers(source)
    name = layer or next(iter(found))
    if name not in found:
        from outstride.errors import ArgumentError

        raise ArgumentError(
            f"'--layer' must be a convolution of {source!r}: got {name!r}; legal: {', '.join(found)}"
        )
    with typed(layer="--layer", scale="--scale"):
        picture = draw(found[name], columns=columns, most=most, scale=scale)  # type: ignore[arg-type]
    picture.save(out)
    if as_json:
        shapes = {key: list(weight.shape) for key, weight in found.items()}
        print_json(
            {
                "layers": shapes,
                "layer": name,
                "shown": picture.shown,
                "kernels": picture.total,
                "colour": picture.colour,
                "picture": str(out),
            }
        )
        return
    screen = console()
    size = " x ".join(map(str, found[name].shape))
    kind = "in colour" if picture.colour else "one channel a tile"
    screen.print(f"{name}: weight {size}, {picture.shown} of {picture.total} kernels, {kind}", soft_wrap=True)
    others = [key for key in found if key != name]
    if others:
        screen.print(f"other layers: {', '.join(others)}", soft_wrap=True)
    screen.print(f"saved: {out}", soft_wrap=True)


def _layers(source: str) -> dict[str, Tensor]:
    from outstride.errors import ArgumentError
    from outstride.pictures.saved_weights import convolution_weights, read_weights

    if ":" in source and not Path(source).exists():
        from outstride.bench.work import build_model

        weights = dict(build_model(source).state_dict())
    else:
        weights = read_weights(Path(source))
    found = convolution_weights(weights)
    if not found:
        raise ArgumentError(
            f"'FILE|MODEL' must have a convolution: got {source!r} with {len(weights)} tensors, none of them "
            f"with 3 to 5 axes"
        )
    return found
