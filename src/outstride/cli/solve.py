"""`outstride solve`: the layers that give a size, the best first, with proof and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outstride.cli.options import refuse
from outstride.cli.screen import console, print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from rich.table import Table

    from outstride.geometry import ChainSolutions, Judgement, Solution, Solutions

NOTHING_FOUND = 1
_OF_CHAIN = ("sizes", "scales", "scale", "input_size", "output_size")
_WIDEST = 10_000
_MARKS = {True: "+", False: "-", None: " "}
_COLOURS = {True: "green", False: "red", None: "dim"}


def solve(
    context: typer.Context,
    sizes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT OUTPUT]", help="The same as --input and --output.", show_default=False
        ),
    ] = None,
    input_size: Annotated[
        str, typer.Option("--input", metavar="SIZE", help="Size that comes in: 23, or 23x31.")
    ] = "",
    output_size: Annotated[
        str, typer.Option("--output", metavar="SIZE", help="Size that shall go out: 46.")
    ] = "",
    scale: Annotated[str, typer.Option(help="Instead: the scale, for every size: 2, 1/2, or 1x2x2.")] = "",
    chain: Annotated[
        str, typer.Option(help="Instead: the size of every level, 256,128,256, or every scale, /2,/2,x2,x2.")
    ] = "",
    kind: Annotated[
        str, typer.Option(help="conv, conv_transpose, max_pool or avg_pool; in a chain, what goes down.")
    ] = "",
    nd: Annotated[int | None, typer.Option(min=1, max=3, help="Axes, where no size shows it [2].")] = None,
    kernel: Annotated[str, typer.Option(metavar="VALUES", help="Kernels to try: 4, 3..7 or 3,5,7.")] = "",
    stride: Annotated[str, typer.Option(metavar="VALUES", help="Strides to try.")] = "",
    padding: Annotated[str, typer.Option(metavar="VALUES", help="Paddings to try.")] = "",
    dilation: Annotated[str, typer.Option(metavar="VALUES", help="Dilations to try [1,2].")] = "",
    output_padding: Annotated[str, typer.Option(metavar="VALUES", help="Output paddings to try.")] = "",
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="Try unequal paddings too.")] = False,
    free_axes: Annotated[
        bool, typer.Option("--free-axes", help="Let the axes have different numbers.")
    ] = False,
    explain: Annotated[
        str, typer.Option(metavar="LAYER", help="Say whether this layer is an answer, and why or why not.")
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=10_000, help="How many answers to print.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> int:
    """Find every layer that turns one size into another, or that scales every size; the best first, and why.

    Examples:

    outstride solve --scale 2

    outstride solve 65 256 --top 3

    outstride solve 14 28 --explain "ConvTranspose2d(8, 8, 3, stride=2, padding=1)"

    outstride solve --chain 256,128,64,128,256 --kind max_pool
    """
    from outstride import geometry
    from outstride.cli import values
    from outstride.errors import ArgumentError

    question: dict[str, Any]
    bounds: dict[str, Any] = {
        "kernel_size": values.several(kernel, "--kernel", 1),
        "stride": values.several(stride, "--stride", 1),
        "padding": values.several(padding, "--padding", 0),
        "dilation": values.several(dilation, "--dilation", 1),
        "output_padding": values.several(output_padding, "--output-padding", 0),
        "asymmetric": asymmetric,
    }
    if sizes:
        if input_size or output_size or len(sizes) != 2:
            raise ArgumentError(
                f"sizes must be two, and given once: got {' '.join(sizes)}; legal: outstride solve 14 28"
            )
        input_size, output_size = sizes
    asked = [name for name, text in (("--chain", chain), ("--scale", scale), ("--input", input_size)) if text]
    if len(asked) != 1 or bool(input_size) != bool(output_size):
        raise ArgumentError(
            f"one question must be asked: got {', '.join(asked) or 'none'}; "
            "legal: two sizes, '--scale' or '--chain'"
        )
    if explain and not chain:
        from outstride.layer.notation import read_call

        refuse(context, ["kind", "nd", "free_axes", "top"], "'--explain'")
        read_call(explain, "--explain")  # what is no layer at all is no question; an impossible one is
    free = False if free_axes else None
    if chain:
        if explain:
            raise ArgumentError(
                "'--explain' must be left out with '--chain': got both; legal: one layer at a time"
            )
        question = values.chain(chain) | ({"down": kind} if kind else {})
        with typed(**dict.fromkeys(_OF_CHAIN, "--chain"), down="--kind", nd="--nd"):
            chains = geometry.solve_chain(**question, nd=nd, isotropic=free, **bounds)
        return _show_chains(chains, top, as_json)
    came, goes = ("INPUT", "OUTPUT") if sizes else ("--input", "--output")
    if scale:
        question = {"scale": values.scale(scale)}
    else:
        question = {
            "input_size": values.size(input_size, came),
            "output_size": values.size(output_size, goes),
        }
    with typed(input_size=came, output_size=goes, scale="--scale", nd="--nd", kind="--kind"):
        if explain:
            return _show_judgement(geometry.judge(explain, **question, **bounds), as_json)
        question |= {"kind": kind} if kind else {}
        return _show(geometry.solve(**question, nd=nd, isotropic=free, **bounds), top, as_json)


def _show(found: Solutions, top: int, as_json: bool) -> int:
    from outstride.geometry.solver.tabulating import HEAD, cells

    if as_json:
        best = [solution.to_dict() for solution in found[:top]]
        print_json({"count": len(found), "solutions": best, "notes": found.notes})
        return 0 if found else NOTHING_FOUND
    screen = console()
    if not found:
        for line in ("no layer within the bounds", *found.notes):
            screen.print(line)
        return NOTHING_FOUND
    rows = (cells(number, one) for number, one in enumerate(found[:top], 1))
    _print_rows(HEAD, list(rows), f"{len(found)} layers, the best first")
    _reasons(found[0])
    for note in found.notes:
        _print_wrapped(note, "  ")
    return 0


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """A table; where the terminal is too narrow for one, two entries and below them the others by name."""
    screen, table = console(), _table(head, rows, title)
    anywhere = screen.options.update(max_width=_WIDEST)
    if screen.measure(table, options=anywhere).maximum <= screen.width:
        screen.print(table)
        return
    screen.print(f"{title}\n", markup=False)
    for first, layer, *others in rows:
        named = (f"{name} {entry}" for name, entry in zip(head[2:], others, strict=True) if entry)
        for line in (f"{first}  {layer}", f"   {', '.join(named)}"):
            _print_wrapped(line, "   ")
    screen.print()


def _print_wrapped(line: str, indent: str, style: str | None = None) -> None:
    """A line, what is too long of it below with an indent."""
    from textwrap import fill

    screen = console()
    indent = indent[: screen.width // 4]
    text = fill(line, screen.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    screen.print(text, style=style, markup=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in ("#", "multiply-adds") else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _reasons(found: Solution) -> None:
    _print_wrapped(repr(found.spec), "  ", "bold")
    for line in found.proof:
        _print_wrapped(f"  = {line}", "    ")
    for reason in found.reasons:
        text = f"  {_MARKS[reason.good]} {reason.topic:<9} {reason.text}"
        _print_wrapped(text, " " * 14, _COLOURS[reason.good])


def _show_judgement(judgement: Judgement, as_json: bool) -> int:
    if as_json:
        print_json(judgement.to_dict())
    else:
        for line in str(judgement).splitlines():
            _print_wrapped(line, " " * (len(line) - len(line.lstrip()) + 2))
    return 0 if judgement.accepted else NOTHING_FOUND


def _show_chains(found: ChainSolutions, top: int, as_json: bool) -> int:
    from outstride.geometry.solver.tabulating import CHAIN_HEAD, chain_cells

    if as_json:
        print_json({"count": len(found), "chains": [c.to_dict() for c in found[:top]], "notes": found.notes})
        return 0 if found else NOTHING_FOUND
    screen = console()
    if not found:
        for line in ("no chain within the bounds", *found.notes):
            screen.print(line, markup=False)
        return NOTHING_FOUND
    best = found[0]
    _print_rows(CHAIN_HEAD, list(chain_cells(best)), f"the first of {len(found)} chains")
    _print_wrapped(best.rule, "  ")
    for number, other in enumerate(found[1:top], 2):
        _print_wrapped(f"{number}. {' -> '.join(repr(step.spec) for step in other.steps)}", "   ")
    for note in found.notes:
        _print_wrapped(note, "  ")
    return 0
