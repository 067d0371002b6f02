"""`outstride explain`: a layer at work on a small input, step by step."""

from __future__ import annotations

import sys
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outstride.cli.options import check_out, refuse
from outstride.cli.screen import console, print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from outstride.explanation.scene import Role, Scene

_STYLES: dict[Role, str] = {
    "active": "black on dark_orange", "result": "black on green3", "border": "grey50",
}  # fmt: skip


def explain(
    context: typer.Context,
    layer: Annotated[
        str, typer.Argument(metavar="[LAYER]", help="As torch writes it: 'Conv2d(1, 1, 3, padding=1)'.")
    ] = "",
    size: Annotated[
        str,
        typer.Argument(metavar="[SIZE]", help="Input size such as 3x3; by default one that shows it all."),
    ] = "",
    view: Annotated[
        str | None,
        typer.Option(
            help="window, stamps, zeros, matrix, short, phases, channels, gradient, pair or unpool."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Save it: .gif or .svg (moving), .html (all views, step by step), .png."),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Instead of a layer: save every picture of the gallery there."),
    ] = None,
    suffix: Annotated[
        str, typer.Option("--format", help="Of the gallery's pictures: svg, gif, html or png.")
    ] = "svg",
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="For each step.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers of every step as JSON.")] = False,
) -> None:
    """Show a layer at work: it moves in a terminal, and stands step by step in a pipe.

    Examples:

    outstride explain "ConvTranspose2d(1, 1, 3, stride=2)"

    outstride explain "Conv2d(1, 1, 3, padding=1)" 4x4 --view matrix --out matrix.gif

    outstride explain --gallery pictures
    """
    from outstride.cli.layer import read_layer, read_size
    from outstride.errors import ArgumentError
    from outstride.explanation.explaining import FORMATS
    from outstride.explanation.explaining import explain as explained

    if gallery is not None:
        refuse(context, ["layer", "size", "view", "out", "as_json"], "'--gallery'")
        _save_gallery(gallery, suffix, seconds)
        return
    refuse(context, ["suffix"], "a single layer")
    if not layer:
        raise ArgumentError(
            "'LAYER' must be given: got nothing; legal: 'Conv2d(1, 1, 3, padding=1)', or --gallery FOLDER"
        )
    if as_json or (out is not None and out.suffix.lower() == ".png"):
        refuse(context, ["seconds"], "what does not move")
    check_out(out, FORMATS)
    spec = read_layer(layer)
    with typed(layer="LAYER", input="SIZE", input_size="SIZE", view="--view"):
        shown = explained(spec, read_size(size, spec, "SIZE") if size else None)
        name = view or next(iter(shown.views))
        scene = shown.chosen(name)[0]
        saved = None if out is None else shown.save(out, view, seconds)
    if as_json:
        frames = [
            {
                "caption": frame.caption,
                "grids": {grid.title: _rows(grid.values.tolist()) for grid in frame.grids},
            }
            for frame in scene.frames
        ]
        print_json(
            {
                "layer": layer,
                "notes": shown.notes,
                "view": name,
                "views": list(shown.views),
                "frames": frames,
            }
        )
    elif saved is not None:
        print(f"saved: {saved}")
    elif sys.stdout.isatty():
        _play(scene, seconds)
    else:
        print(shown.text(view))


def _save_gallery(folder: Path, suffix: str, seconds: float) -> None:
    from outstride.explanation.gallery import save_gallery

    with typed(folder="--gallery", suffix="--format"):
        made = save_gallery(folder, suffix, seconds)
    print(f"saved: {len(made)} pictures in {folder}")


def _rows(rows: list[list[float]]) -> list[list[float | None]]:
    """Numbers as JSON has them: no value where a cell is still empty, or infinite."""
    return [[value if isfinite(value) else None for value in row] for row in rows]


def _play(scene: Scene, seconds: float) -> None:
    """Frame after frame in place; one below the other where a terminal cannot do that or is too low."""
    from time import sleep

    from rich.live import Live
    from rich.text import Text

    from outstride.explanation.drawing import COLOURS
    from outstride.explanation.scene import PHASES
    from outstride.explanation.text import frame_markup

    styles: dict[Role, str] = dict(_STYLES)
    styles.update({phase: f"black on {COLOURS[phase]}" for phase in PHASES})
    screen, shown = console(), []
    for place, frame in enumerate(scene.frames, 1):
        text = Text(f"{scene.title}  {place}/{len(scene.frames)}\n\n")
        for piece, role in frame_markup(frame, screen.width):
            text.append(piece, style=styles.get(role, "") if role else "")
        shown.append(text.append("".join(f"\n{note}" for note in scene.notes)))
    rows = max(len(screen.render_lines(text, pad=False)) for text in shown)
    if screen.is_dumb_terminal or rows >= screen.height:
        for text in shown:
            screen.print(text, "")
            sleep(seconds)
        return
    with Live(console=screen, auto_refresh=False) as live:
        for text in shown:
            live.update(text, refresh=True)
            sleep(seconds)
