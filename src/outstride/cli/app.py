"""The table of verbs; each lives in a module of its own and imports what it needs only when it runs."""

from __future__ import annotations

from importlib.metadata import version
from inspect import cleandoc
from typing import Annotated, Any

import typer

from outstride.cli.artifacts import artifacts
from outstride.cli.bench import bench
from outstride.cli.cache import cache
from outstride.cli.check import check
from outstride.cli.demo import demo
from outstride.cli.explain import explain
from outstride.cli.info import info
from outstride.cli.kernels import kernels
from outstride.cli.plan import plan
from outstride.cli.screen import colourless
from outstride.cli.size import size
from outstride.cli.solve import solve
from outstride.cli.studio import studio
from outstride.cli.tile import tile

app = typer.Typer(
    name="outstride",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convolutions and transposed convolutions for PyTorch with kernels generated at run time.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"outstride {version('outstride')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def outstride(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        print(context.get_help())


def _paragraphs(text: str) -> str:
    """A docstring whose lines end where the terminal's do, and no longer where the source's did."""
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(text).split("\n\n"))


for verb in (demo, bench, plan, size, solve, check, artifacts, explain, kernels, tile, studio, cache, info):
    app.command(help=_paragraphs(verb.__doc__ or ""))(verb)


def command() -> Any:
    """The whole command; colours only where somebody looks at a terminal."""
    if colourless():
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None
    return typer.main.get_command(app)
