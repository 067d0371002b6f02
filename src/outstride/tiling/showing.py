"""The bar of what is being done: as long as it was predicted to take, as fast as it has been so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Item = TypeVar("_Item")


class Bar:
    """Goes on with each of some items, every one of which is so long. This one shows nothing."""

    def __call__(self, items: Iterable[_Item], said: str, each: float) -> Iterable[_Item]:
        """The items."""
        del said, each
        return items

    def say(self, said: str) -> None:
        """Show other words beside it."""


NO_BAR = Bar()


class _Shown(Bar):
    """One on a terminal."""

    def __init__(self, shown: Any, length: float) -> None:
        self._shown, self._task = shown, shown.add_task("", total=length)

    def __call__(self, items: Iterable[_Item], said: str, each: float) -> Iterator[_Item]:
        self.say(said)
        for item in items:
            yield item
            self._shown.advance(self._task, each)

    def say(self, said: str) -> None:
        self._shown.update(self._task, description=said)


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
        yield NO_BAR
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with progress.Progress(*columns, console=console) as shown:
        yield _Shown(shown, length)
