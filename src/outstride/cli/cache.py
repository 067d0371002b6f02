"""`outstride cache`: what is kept of kernels on disk and of calls in memory, and its removal."""

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

    A kernel that is missing is compiled again when it is needed: clearing costs time, never results. What
    calls have cached in memory is shown, too: that of this process, which has made none by itself.

    Example:

    outstride cache clear
    """
    from outstride.engine.launch import call_cache
    from outstride.engine.runtime import cache as kept

    content = {"path": str(kept.path()), "entries": len(kept.entries()), "size_bytes": kept.size_bytes()}
    calls = call_cache.sizes()
    if action is Action.CLEAR:
        content["entries"] = kept.clear()
        call_cache.clear()
    if as_json:
        print_json({**content, "calls": calls, "cleared": action is Action.CLEAR})
    elif action is Action.PATH:
        print(content["path"])
    elif action is Action.SIZE:
        print(content["size_bytes"])
    else:
        done = "removed" if action is Action.CLEAR else "holds"
        print(f"{content['path']}\n{done} {content['entries']} kernels, {content['size_bytes']} bytes")
        print(f"in memory: {', '.join(f'{count} {name}' for name, count in calls.items())}")
