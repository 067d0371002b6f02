"""The command `outstride VERB`: reads arguments, calls the package, prints; it owns no arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from errno import ENOSPC
from typing import Any

from outstride.cli import streams

BAD_INPUT, INTERRUPTED = 2, 130
_TORCHS_MEMORY_ERRORS = ("can't allocate memory", "Storage size calculation overflowed")
_TOO_LARGE = "this machine has not the memory for these sizes; legal: smaller ones"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 2 bad input (one line on stderr), 130 interrupted.

    Args:
        arguments: what follows the command's name; those of the process where none are given.

    Raises:
        SystemExit: always, with the exit code.
    """
    streams.prepare()
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except SystemExit as stop:
        code = 0  # rich's word for a broken pipe
        if not isinstance(stop.__context__, BrokenPipeError):
            message = (
                f"'MODEL' must not end the program: its code exits with {stop.code!r}; legal: an exception"
            )
            code = _complain(message, BAD_INPUT)
    except KeyboardInterrupt:
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough (`| head`); a second complaint at shutdown would be noise.
        streams.discard()
        code = 0
    except OSError as error:
        streams.discard()
        code = _complain(f"what was to be printed could not be written: {error.strerror}", BAD_INPUT)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    import typer

    from outstride.cli.app import command
    from outstride.cli.screen import InterruptedWorkError
    from outstride.errors import OutstrideError

    # typer carries its own copy of click in newer releases and uses the installed one in older ones.
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        # Not by its main(), which ends the process itself where a pipe breaks.
        with command().make_context("outstride", arguments) as context:
            result = context.command.invoke(context)
    except typer.Exit as stop:
        result = stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except InterruptedWorkError as interruption:
        return _complain(str(interruption), INTERRUPTED)
    except OutstrideError as error:
        return _complain(str(error), BAD_INPUT)
    except MemoryError:
        return _complain(_TOO_LARGE, BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = f"{arguments[0]!r} must have torch, which is not installed; legal: pip install torch"
        return _complain(message, BAD_INPUT)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == ENOSPC and not error.filename:  # what is printed is buffered, or is not
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", BAD_INPUT)
    except RuntimeError as error:
        if not any(words in str(error) for words in _TORCHS_MEMORY_ERRORS):
            raise
        return _complain(_TOO_LARGE, BAD_INPUT)
    except usage_error as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "outstride")
        return _complain(f"{error.format_message().rstrip('.')}; see {where} --help", BAD_INPUT)
    return result if isinstance(result, int) else 0


def _complain(message: str, code: int) -> int:
    try:
        print("outstride:", " ".join(message.split()), file=sys.stderr, flush=True)
    except OSError:  # nobody can hear it: the exit code says it, and not that a buffer was left full
        streams.discard(sys.stderr)
    return code
