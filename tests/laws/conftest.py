"""The items of the laws: which are made, in which order they are played, and what neighbours share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.environments import computed_by
from tests.laws.items import Item, items_of


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "played(items): the items of a law (tests/laws/items.py)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Items that wait for the long run are not even made without it: they are more than all others."""
    law = metafunc.definition.get_closest_marker("played")
    if law is None:
        return
    items = items_of(law)
    if metafunc.config.getoption("markexpr") == "not slow":
        waits = metafunc.definition.get_closest_marker("slow") is not None
        items = [] if waits else [item for item in items if not item.waits]
    marks = {True: [pytest.mark.slow], False: []}
    metafunc.parametrize("item", [pytest.param(i, id=str(i), marks=marks[i.waits]) for i in items])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In each file the laws of a case follow each other: what is planned for one serves the next.

    All files but the first go backwards, so that two that are played at the same time meet in the middle and
    neither compiles what the other has compiled.
    """
    first: dict[tuple[object, ...], int] = {}

    def place(played: pytest.Item) -> tuple[int, ...]:
        item = _item_of(played)
        assert item is not None
        keys = (played.path,), (played.path, item.algorithm), (played.path, item.algorithm, item.case.id)
        file, *within = (first.setdefault(key, len(first)) for key in keys)
        return (file, *(-n for n in within)) if file else (file, *within)

    where = [n for n, each in enumerate(items) if _item_of(each) is not None]
    for n, played in zip(where, sorted([items[n] for n in where], key=place), strict=True):
        items[n] = played


def _item_of(played: pytest.Item) -> Item | None:
    callspec = getattr(played, "callspec", None)
    item = callspec.params.get("item") if callspec is not None else None
    return item if isinstance(item, Item) else None


@pytest.fixture(scope="module")
def _computed_by() -> Iterator[Callable[[str], None]]:
    """Has what follows played by an algorithm, until another is asked for."""
    with ExitStack() as stack:
        current = "direct"

        def change(algorithm: str) -> None:
            nonlocal current
            if algorithm != current:
                stack.close()
                stack.enter_context(computed_by(algorithm))
                current = algorithm

        yield change


@pytest.fixture(autouse=True)
def _neighbours_share_their_plans(
    request: pytest.FixtureRequest, _computed_by: Callable[[str], None]
) -> None:
    item = _item_of(request.node)
    _computed_by("direct" if item is None else item.algorithm)
