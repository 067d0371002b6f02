"""Options that would have no effect are refused, not ignored; files that cannot be made, before the work."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any


def check_out(out: Path | None, formats: Collection[str]) -> None:
    """Refuse what --out names where no such file could be made.

    Raises:
        ArgumentError: it has another ending, or no folder.
        OSError: the folder takes no files.
    """
    from outstride.errors import ArgumentError
    from outstride.output.files import check_writable

    if out is None:
        return
    if out.suffix.lower() not in formats or not out.absolute().parent.is_dir():
        raise ArgumentError(
            f"'--out' must be a {' or '.join(formats)} in a folder that exists: got {str(out)!r}; "
            f"legal: picture{next(iter(formats))}"
        )
    check_writable(out)


def check_apart(out: Path, source: Path, argument: str) -> None:
    """Refuse to write over what is read.

    Raises:
        ArgumentError: both are one file.
    """
    from outstride.errors import ArgumentError

    if out.exists() and source.exists() and out.samefile(source):
        raise ArgumentError(
            f"'--out' must be another file than '{argument}': got {str(out)!r} for {str(source)!r}; "
            "legal: another name"
        )


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
