"""`outstride demo`: train a small super-resolution network on a photograph and show what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outstride.cli.options import check_apart, refuse
from outstride.cli.screen import InterruptedWorkError, console, print_json
from outstride.cli.wording import typed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from outstride.demo.run import Result

NEEDS = {"PIL": "pillow", "matplotlib": "matplotlib"}
SCALES = (2, 3, 4)


def demo(
    context: typer.Context,
    image: Annotated[Path | None, typer.Option(help="Your own picture, in place of the portrait.")] = None,
    scale: Annotated[int, typer.Option(help="How much larger: 2, 3 or 4.")] = 2,
    seconds: Annotated[float, typer.Option(min=0.1, max=86400, help="Time for training.")] = 70.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train exactly so many steps instead, the same every time.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights and patches.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("outstride-demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train a small super-resolution network on a photograph, on this engine, and show what it does.

    Patches of the photograph train it; a region that they never touch is enlarged, compared with bicubic
    and saved as a panel. Then every layer is timed on torch and on outstride. Ctrl-C ends the training, not
    the demo; the second Ctrl-C ends both.

    Examples:

    outstride demo

    outstride demo --image holiday.jpg --scale 3 --seconds 120 --out holiday
    """
    from outstride.errors import ArgumentError, UnsupportedError

    missing = [package for module, package in NEEDS.items() if find_spec(module) is None]
    if missing:
        raise UnsupportedError(f"the demo needs {' and '.join(missing)}: pip install 'outstride[demo]'.")
    if steps is not None:
        refuse(context, ["seconds"], "'--steps'")
    if scale not in SCALES:
        raise ArgumentError(f"'--scale' must be one of {', '.join(map(str, SCALES))}: got {scale}.")
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"'--out' must be a folder or a name that is free: got {str(out)!r}.")

    from outstride.demo.run import PICTURES, Options, run
    from outstride.demo.training import Budget

    if image is not None:
        for name in PICTURES:
            check_apart(out / name, image, "--image")
    with _screen() as screen, typed(image="--image"):
        result = run(Options(out, image, scale, seed, Budget(seconds, steps)), screen)
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result, console())
    if result.training.interrupted:
        raise InterruptedWorkError(
            f"training was interrupted after {result.training.steps} steps, all else is done"
        )


class Screen:
    """A progress bar on stderr, where figures do not go; a line every tenth where nobody watches."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=1.0, steps=0, loss=float("nan"))
        self._next_line = 0.0

    def say(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True)

    def training(self, used: float, steps: int, loss: float) -> None:
        self._progress.update(self._task, completed=used, steps=steps, loss=loss)
        if self._progress.disable and used >= self._next_line:
            self.say(f"training: {used:.0%}, {steps} steps, loss {loss:.4f}")
            self._next_line = used + 0.1

    def trained(self) -> None:
        # A bar that goes on drawing itself would be timed with the layers.
        self._progress.stop()


@contextmanager
def _screen() -> Iterator[Screen]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%  {task.fields[steps]} steps  loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
    )
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        yield Screen(progress)


def _print(result: Result, screen: Console) -> None:
    from rich.table import Table

    quality = result.quality
    gain = quality.network_db - quality.bicubic_db
    screen.print(f"held-out region, PSNR of brightness: bicubic {quality.bicubic_db:.2f} dB, ", end="")
    screen.print(f"network {quality.network_db:.2f} dB ({gain:+.2f} dB)")
    table = Table("layer", "input", "torch ms", "outstride ms", "times torch", "difference", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in result.layers:
        table.add_row(
            row.name,
            "x".join(map(str, row.input_shape)),
            f"{row.torch_ms:.2f}",
            f"{row.outstride_ms:.2f}",
            f"{row.torch_ms / row.outstride_ms:.2f}",
            f"{row.largest_difference:.1e}",
        )
    screen.print(table)
    screen.print(f"saved: {', '.join(map(str, result.files))}", soft_wrap=True)
