"""Errors in the words of the command line: SIZE and --view, where functions say input_size and view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def typed(**words: str) -> Iterator[None]:
    """Let errors name what the user typed: for each argument of a function the word that stands for it.

    Raises:
        OutstrideError: the function's own, its sentence in these words.
    """
    from outstride.errors import OutstrideError

    try:
        yield
    except OutstrideError as error:
        ruled, got, rest = str(error).partition(": got ")
        ruled = re.sub(r"(?<=')\w+(?=')", lambda name: words.get(name[0], name[0]), ruled)
        rest = re.sub(r"\b\w+(?==\S)", lambda name: words.get(name[0], name[0]), rest)
        error.args = (f"{ruled}{got}{rest}",)
        raise
