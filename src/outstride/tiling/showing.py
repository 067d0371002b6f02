"""The bar of what is being done: as long as it was predicted to take, as fast as it has been so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")


class Bar(Protocol):
    """Goes on with each of some items, every one of which is so long."""

    def __call__(self, items: Iterable[_Item], said: str, each: float) -> Iterable[_Item]: ...


def no_bar(items: Iterable[_Item], said: str, each: float) -> Iterable[_Item]:
    """Nothing is shown."""
    del said, each
    return items


@contextmanager
def bar(length: float, wanted: bool) -> Iterator[Bar]:
    """A bar on the error stream, if it is ``wanted`` and somebody looks.

    It says when all will be done, by what has been.
    """
    console = None
    if wanted:
        from rich.console import Console

        console = Console(stderr=True)
    if console is None or not console.is_terminal:
        yield no_bar
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with progress.Progress(*columns, console=console) as shown:
        task = shown.add_task("", total=length)

        def over(items: Iterable[_Item], said: str, each: float) -> Iterator[_Item]:
            shown.update(task, description=said)
            for item in items:
                yield item
                shown.advance(task, each)

        yield over
