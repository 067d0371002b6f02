"""`outstride studio`: a local page that shows layers at work and answers what is asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outstride.cli.options import refuse
from outstride.cli.wording import typed
from outstride.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from outstride.studio.learned import Learned
    from outstride.studio.networks import Network

_USUAL_SHAPE = (1, 3, 224, 224)


def studio(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="[LAYER|MODEL]",
            help="What to show first: 'ConvTranspose2d(1, 1, 3, stride=2)'; or a model beside it: "
            "package.module:callable, file.py:callable, timm:resnet18, torchvision:resnet18, saved.pt2; or a "
            "state, weights.pt or weights.safetensors, for its kernels.",
        ),
    ] = "",
    size: Annotated[
        str,
        typer.Argument(metavar="[SIZE]", help="Input size such as 3x3; by default one that shows it all."),
    ] = "",
    shape: Annotated[
        str, typer.Option("--input", help="Shape of a model's input [its own, or 1x3x224x224].")
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default any that is free.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the link and open nothing.")
    ] = False,
) -> None:
    """Open a page in the browser: a layer in pictures that move, its sizes, plan, patterns and spellings.

    It is served from this machine to this machine alone, and asks nobody else for anything. Ctrl-C ends it.

    Examples:

    outstride studio

    outstride studio "ConvTranspose2d(64, 32, 4, stride=2, padding=1)" --no-browser

    outstride studio timm:resnet18 --input 1x3x224x224
    """
    from outstride.studio.serving import Studio

    is_model = bool(target) and "(" not in target
    if is_model:
        refuse(context, ["size"], "a model")
    else:
        refuse(context, ["shape"], "a layer")
        _check(target, size)
    with typed(port="--port", input_shape="--input"):
        start = {"layer": "" if is_model else target, "size": size}
        page = Studio(start, port, _model(target, shape) if is_model else None)

    def say() -> None:
        print(f"studio: {page.link}\nCtrl-C ends it", flush=True)

    page.run(browser=not no_browser, ready=say)


def _check(layer: str, size: str) -> None:
    """Refuse what is no layer before anything is served."""
    from outstride.cli.layer import read_layer, read_size

    if layer:
        spec = read_layer(layer, "LAYER|MODEL")
        if size:
            read_size(size, spec, "SIZE")


def _model(name: str, shape: str) -> Network | Learned:
    """The model of that name, looked at once, so that what it lacks is said here; or what a state has."""
    from outstride.studio.learned import STATES, learned_in

    if Path(name).suffix in STATES:
        if shape:
            raise ArgumentError(
                f"'--input' must be left out beside a saved state: got {shape!r}; legal: none"
            )
        return learned_in(Path(name))
    from outstride.bench.cases import parse_size
    from outstride.bench.targets import build
    from outstride.studio.networks import Network

    model, given = build(name)
    own = _USUAL_SHAPE if given is None else tuple(given.shape)
    found = Network(name, model, parse_size(shape, "--input", 1) if shape else own)
    try:
        found.described({})
    except ShapeError as error:
        if shape or given is not None:
            raise
        raise ShapeError(
            f"'--input' must be given where the model does not take {'x'.join(map(str, own))}: got none; "
            f"legal: the shape of an input of it. {error}"
        ) from error
    return found
