"""The three streams of the process: there, whoever closed them, and open to every letter."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TextIO

#: What stands for the letters of our own texts that a stream cannot write; others are escaped.
_PLAIN = {"·": "*", "…": "..."}
_LETTERS = "outstride.letters"


def prepare() -> None:
    """Put the null device where a stream was closed, and let no letter be an error."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It takes the lowest number that is free, the closed one: no file that is opened later may be
            # taken for the stream by what writes to numbers, nor by the processes that we start.
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))
    codecs.register_error(_LETTERS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_LETTERS)


def discard(stream: TextIO | None = None) -> None:
    """Let what is still to be written to a stream, stdout by default, go nowhere: nobody reads it there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, ascii(letter)[1:-1]) for letter in letters), error.end
