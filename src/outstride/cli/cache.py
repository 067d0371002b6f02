"""`outstride cache`: where compiled kernels are kept, how much they take, and their removal."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from outstride.cli.screen import print_json


class Action(str, Enum):
    """What to do with the cache."""

    SHOW = "show"
    PATH = "path"
    SIZE = "size"
    CLEAR = "clear"


def cache(
    action: Annotated[
        Action, typer.Argument(help="Show everything, or only the path or size; or clear.")
    ] = Action.SHOW,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Show where compiled kernels are kept on disk and how much they take, or remove them.

    A kernel that is missing is compiled again when it is needed: clearing costs time, never results.

    Example:

    outstride cache clear
    """
    from outstride.engine.runtime import cache as kept

    content = {"path": str(kept.path()), "entries": len(kept.entries()), "size_bytes": kept.size_bytes()}
    if action is Action.CLEAR:
        content["entries"] = kept.clear()
    if as_json:
        print_json({**content, "cleared": action is Action.CLEAR})
    elif action is Action.PATH:
        print(content["path"])
    elif action is Action.SIZE:
        print(content["size_bytes"])
    else:
        done = "removed" if action is Action.CLEAR else "holds"
        print(f"{content['path']}\n{done} {content['entries']} kernels, {content['size_bytes']} bytes")
