"""`outstride studio`: a local page that shows layers at work and answers what is asked about them."""

from __future__ import annotations

from typing import Annotated

import typer

from outstride.cli.wording import typed


def studio(
    layer: Annotated[
        str,
        typer.Argument(metavar="[LAYER]", help="What to show first: 'ConvTranspose2d(1, 1, 3, stride=2)'."),
    ] = "",
    size: Annotated[
        str,
        typer.Argument(metavar="[SIZE]", help="Input size such as 3x3; by default one that shows it all."),
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
    """
    from outstride.cli.layer import read_layer, read_size
    from outstride.studio.serving import Studio

    if layer:
        spec = read_layer(layer)
        if size:
            read_size(size, spec, "SIZE")
    with typed(port="--port"):
        page = Studio({"layer": layer, "size": size}, port)

    def say() -> None:
        print(f"studio: {page.link}\nCtrl-C ends it", flush=True)

    page.run(browser=not no_browser, ready=say)
