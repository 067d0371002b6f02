"""What the examples share: their command line, a progress bar, and Ctrl-C that keeps what is done."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERRUPTED = 130


def arguments(description: str, steps: int, quick: int) -> argparse.Namespace:
    """Read --out, --steps, --quick and --seed.

    Args:
        description: what ``--help`` says first.
        steps: training steps where nothing else is said.
        quick: those of ``--quick``, which only shows that everything runs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the pictures (default: here)")
    parser.add_argument("--steps", type=int, default=None, help=f"training steps (default: {steps})")
    parser.add_argument("--quick", action="store_true", help=f"{quick} steps: to see that everything runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn (default: 0)")
    given = parser.parse_args()
    if given.steps is None:
        given.steps = quick if given.quick else steps
    if given.steps < 1:
        parser.error(f"'--steps' must be at least 1: got {given.steps}; legal: 1 or more")
    if not 0 <= given.seed < 2**32:
        parser.error(
            f"'--seed' must be a number that a generator takes: got {given.seed}; legal: 0 to 2**32 - 1"
        )
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = error.strerror or str(error)
        parser.error(f"'--out' must be a folder, there or to be made: got {str(given.out)!r} ({told})")
    if not os.access(given.out, os.W_OK):
        parser.error(f"'--out' must be a folder to write into: got {str(given.out)!r}; legal: another one")
    return given


def begin(main: Callable[[], None]) -> None:
    """Run a script; Ctrl-C where nothing is trained ends it in one line."""
    try:
        main()
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        raise SystemExit(INTERRUPTED) from None


class Training:
    """Runs training loops one after the other; after Ctrl-C the one that runs ends and no other begins."""

    def __init__(self) -> None:
        self.interrupted = False

    def run(self, name: str, steps: int, step: Callable[[int], float]) -> list[float]:
        """Call ``step`` for every number below ``steps``; return the losses that it returned."""
        losses: list[float] = []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]:.4g}"),
            TimeRemainingColumn(),
        )
        screen = Console(stderr=True)
        with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
            task = bar.add_task(name, total=steps, loss=float("nan"))
            try:
                for number in range(0 if self.interrupted else steps):
                    losses.append(step(number))
                    bar.update(task, advance=1, loss=losses[-1])
                    # Where nobody watches a bar, a line every tenth.
                    if bar.disable and (number + 1) * 10 // steps > number * 10 // steps:
                        screen.print(f"{name}: {number + 1}/{steps}  loss {losses[-1]:.4g}")
            except KeyboardInterrupt:
                self.interrupted = True
                screen.print(f"{name}: interrupted after {len(losses)} of {steps} steps, the rest goes on")
        return losses

    def exit(self) -> None:
        """End the script: 130 where it was interrupted."""
        if self.interrupted:
            raise SystemExit(INTERRUPTED)


def save(figure: Figure, path: Path) -> None:
    """Write a picture beside its place and rename it, so that nobody sees half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(beside, format="png", dpi=100)
    beside.replace(path)
    print(f"saved: {path}")
