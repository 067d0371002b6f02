"""Print to a terminal with colours and to a pipe as plain text of full width."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# A pipe has no width: lines are cut by whoever reads them, not by us.
PIPE_WIDTH = 200


class InterruptedWorkError(Exception):
    """Ctrl-C ended part of the work; the message says what there is all the same."""


def colourless() -> bool:
    """Whether stdout is no terminal and nobody asks for colours in spite of that."""
    return not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR"))


def console(stderr: bool = False) -> Console:
    """A console that knows whether anybody sees it; rich obeys NO_COLOR, FORCE_COLOR and TERM=dumb."""
    from rich.console import Console

    seen = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if seen else PIPE_WIDTH, highlight=False)


def print_json(content: Any) -> None:
    """Print figures for a program to read."""
    print(json.dumps(content, indent=2))
