"""`outstride check`: where every layer of a model looks, what it costs, and which images it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from outstride.cli.screen import print_json
from outstride.cli.wording import typed


def check(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A layer as torch writes it, a factory package.module:callable or file.py:callable, or a "
            "name such as timm:resnet18 or torchvision:resnet18.",
        ),
    ],
    shape: Annotated[str, typer.Option("--input", help="Shape of the input: 1,3,256,256 or 1x3x256x256.")],
    axes: Annotated[
        str | None,
        typer.Option(help="Axes of the input along which positions lie, from 0; all after the first two."),
    ] = None,
    sizes: Annotated[bool, typer.Option(help="Find the input sizes that the model accepts.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Print where every layer looks and what it costs, and which sizes the model takes.

    The model runs on shapes alone: no weights are loaded and nothing is computed.

    Examples:

    outstride check "ConvTranspose2d(64, 32, 3, stride=2, padding=1)" --input 1,64,32,32

    outstride check timm:resnet18 --input 1,3,224,224

    outstride check mymodel.py:make_vocoder --input 1,200,80 --axes 1
    """
    from outstride.bench.cases import parse_size
    from outstride.cli.model import read_model

    input_shape = parse_size(shape, "--input", 1)
    along = None if axes is None else parse_size(axes, "--axes")
    found = read_model(model)

    from outstride.inspection import check as inspect

    with typed(model="MODEL", input_shape="--input", axes="--axes"):
        report = inspect(found, input_shape, axes=along, sizes=sizes)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
