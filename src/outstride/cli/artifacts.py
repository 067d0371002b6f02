"""`outstride artifacts`: checkerboards of a layer, a model or a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outstride.cli.options import check_apart, check_out, refuse
from outstride.cli.screen import print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from outstride.artifacts import Measurement, Overlap, Survey

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


def artifacts(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="LAYER|MODEL|PICTURE",
            help="A layer as torch writes it, package.module:callable or timm:resnet18, or a picture.",
        ),
    ],
    size: Annotated[
        str,
        typer.Argument(
            metavar="[SIZE]",
            help="A layer's input such as 7x7 shows its borders; a model's such as 1x3x64x64 runs it.",
        ),
    ] = "",
    stride: Annotated[int, typer.Option(min=2, help="Period to look for in a picture.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Draw the map, the ripples or the spectrum."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Look for checkerboards: in a layer's overlap, in a model's weights, or in a picture.

    Examples:

    outstride artifacts "ConvTranspose2d(64, 3, 3, stride=2, padding=1, output_padding=1)"

    outstride artifacts enlarged.png --stride 2
    """
    from outstride.errors import ArgumentError
    from outstride.output.files import write_whole

    check_out(out, [".png"])
    is_picture = Path(target).suffix.lower() in PICTURES
    if is_picture and out is not None:
        check_apart(out, Path(target), "PICTURE")
    refuse(context, ["size"] if is_picture else ["stride"], "a picture" if is_picture else "a layer or model")
    _need(["PIL"] * is_picture + ["PIL", "matplotlib"] * (out is not None))
    if is_picture:
        with typed(image="PICTURE", stride="--stride"):
            content, text, drawing = _picture(Path(target), stride)
    elif "(" in target:
        with typed(layer="LAYER|MODEL|PICTURE", input_size="SIZE"):
            content, text, drawing = _layer(target, size)
    elif ":" in target:
        with typed(model="LAYER|MODEL|PICTURE", input="SIZE"):
            content, text, drawing = _model(target, size)
    else:
        raise ArgumentError(
            f"'LAYER|MODEL|PICTURE' must be one of them: got {target!r}; legal: 'ConvTranspose2d(8, 3, 4, "
            f"stride=2)', package.module:callable or a file of {', '.join(PICTURES)}"
        )
    if out is not None:
        from outstride.artifacts import drawing as draw

        figure = getattr(draw, drawing[0])(*drawing[1:])
        write_whole(out, lambda beside: figure.savefig(beside, format="png", dpi=120))
        content["picture"], text = str(out), f"{text}\nsaved: {out}"
    if as_json:
        print_json(content)
    else:
        print(text)


def _need(packages: list[str]) -> None:
    """Say which extra has the packages that are missing, before anything is computed."""
    from outstride.errors import UnsupportedError

    if any(find_spec(package) is None for package in packages):
        raise UnsupportedError("pictures need Pillow and matplotlib: pip install 'outstride[demo]'.")


Answer = tuple[dict[str, Any], str, tuple[Any, ...]]
"""Figures, text, and what draws it: a function's name and its arguments."""


def _layer(target: str, size: str) -> Answer:
    from outstride.artifacts import overlap
    from outstride.artifacts.suggestions import same_sizes
    from outstride.cli.layer import read_layer, read_size

    spec = read_layer(target, "LAYER|MODEL|PICTURE")
    found: Overlap = overlap(spec, read_size(size, spec, "SIZE") if size else None)
    helps = () if overlap(spec).even else same_sizes(spec)
    lines = [str(found)]
    if helps:
        lines += ["the same output size for every input, with an even overlap:"]
        lines += [f"  {one.text}" for one in helps]
    content = found.to_dict() | {"same_sizes": [one.text for one in helps]}
    return content, "\n".join(lines), ("draw_overlap", [found])


def _model(target: str, size: str) -> Answer:
    import torch

    from outstride.artifacts import inspect
    from outstride.bench.cases import parse_size
    from outstride.cli.model import read_model

    model = read_model(target)
    input = None
    if size:
        shape = parse_size(size, "SIZE", minimum=1)
        input = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found: Survey = inspect(model, input)
    return found.to_dict(), str(found), ("draw_survey", found)


def _picture(path: Path, stride: int) -> Answer:
    from outstride.artifacts import measure
    from outstride.artifacts.picture_files import read_picture

    values = read_picture(path)
    found: Measurement = measure(values, stride)
    verdict = "a pattern" if found.ratio > 3 else "no pattern that stands out"
    return (
        found.to_dict(),
        f"{path.name}: {found}\n{verdict}",
        ("draw_spectrum", [(path.name, values)], stride),
    )
