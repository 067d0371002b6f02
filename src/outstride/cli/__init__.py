"""The command `outstride VERB`: reads arguments, calls the package, prints; it owns no arithmetic."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 2 bad input (one line on stderr), 130 interrupted.

    Args:
        arguments: what follows the command's name; those of the process where none are given.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough (`| head`); a second complaint at shutdown would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    import typer

    from outstride.cli.app import command
    from outstride.cli.screen import InterruptedWorkError
    from outstride.errors import OutstrideError

    # typer carries its own copy of click in newer releases and uses the installed one in older ones.
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        result = command().main(arguments, prog_name="outstride", standalone_mode=False)
    except typer.Exit as stop:
        result = stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except InterruptedWorkError as interruption:
        return _complain(str(interruption), INTERRUPTED)
    except OutstrideError as error:
        return _complain(str(error), BAD_INPUT)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(str(error), BAD_INPUT)
    except usage_error as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "outstride")
        return _complain(f"{error.format_message().rstrip('.')}; see {where} --help", BAD_INPUT)
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _complain(message: str, code: int) -> int:
    print("outstride:", " ".join(message.split()), file=sys.stderr)
    return code
