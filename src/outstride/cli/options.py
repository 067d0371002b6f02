"""Options that would have no effect are refused, not ignored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def refuse(context: Any, idle: Collection[str], beside: str) -> None:
    """Refuse options and arguments, by their names in the code, that have no meaning beside something else.

    Raises:
        ArgumentError: one of them stands on the command line; the first is named as it is written there.
    """
    from outstride.errors import ArgumentError

    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.name in idle and getattr(source, "name", "") == "COMMANDLINE":
            written = (getattr(parameter, "metavar", None) or "").strip("[]")
            if parameter.opts[0].startswith("-"):
                written = parameter.opts[0]
            raise ArgumentError(
                f"'{written}' must be left out beside {beside}, where it would have no effect: got both; "
                f"legal: {context.command_path} without it"
            )
