"""Sources of any sizes one after the other, each with results of its own.

Of files the journals of those that are whole stay until all are, so that the same call knows them. Then a
line in each says that all is over, and they are removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.files import formats
from outstride.tiling.files.apart import check_apart, place_of
from outstride.tiling.inputs import Inputs
from outstride.tiling.outputs import HERE
from outstride.tiling.results.asking import Listener, Options, Outcome
from outstride.tiling.results.partial import end, folders_of, is_over, progress_of
from outstride.tiling.results.single import files_of, make
from outstride.tiling.running import Runs


def make_each(
    runs: Runs, sources: Sequence[Any], out: Any, options: Options,
    listens: Callable[[Any], Listener] = lambda _: Listener(),
) -> Iterator[tuple[Any, Outcome]]:  # fmt: skip
    """What a model makes of each of some sources, and where it is.

    Args:
        runs: of the model.
        sources: of any sizes.
        out: for each what ``make`` takes, or None.
        options: of all of them.
        listens: for the place of each source's results who is told what becomes of them.

    Raises:
        ArgumentError: there are not as many places, or one is not free, before anything is computed.
    """
    places = _places(sources, out)
    files = [files_of(place) for place in places]
    everywhere = [path for paths in files for path in paths]
    over = any(map(is_over, everywhere))
    if not over:
        _check(sources, files, options)
    for source, place, paths in zip(sources, places, files, strict=True):
        if over and paths and not any(map(folders_of, paths)):
            continue  # it has its name, and its folder is removed
        yield place, make(runs, source, place, _of_one(options), listens(place), keep=True)
    end(everywhere)


def _places(sources: Sequence[Any], out: Any) -> list[Any]:
    """Where the results of each source go."""
    if out is None:
        return [None] * len(sources)
    if not isinstance(out, (list, tuple)) or len(out) != len(sources):
        got = len(out) if isinstance(out, (list, tuple)) else repr(out)[:80]
        raise ArgumentError(
            f"'out' must name a place for each of the {len(sources)} sources: got {got}; legal: a list of "
            f"{len(sources)}, or None"
        )
    return list(out)


def _check(sources: Sequence[Any], files: Sequence[Sequence[Path]], options: Options) -> None:
    """Refuse what would be found only when some of it is made."""
    if options.only is not None:
        raise ArgumentError(
            f"'only' must go with one source: got a list of {len(sources)}; legal: the source alone"
        )
    everywhere = [path for paths in files for path in paths]
    if options.resume and not any(map(progress_of, everywhere)):
        raise ArgumentError(
            "'resume' must have something to go on with: got none of the results with tiles that are done; "
            "legal: without it"
        )
    read = dict[str, Any]()
    for source in sources:
        for each in Inputs.of(source).mapped(formats.file_of).sources:
            if (place := place_of(each)) is not None:
                read[os.path.realpath(place)] = each
    seen = set[Path]()
    for path in everywhere:
        if path in seen:
            raise ArgumentError(
                f"'out' must name another place for each source: got {str(path)!r} again; legal: other names"
            )
        seen.add(path)
        if HERE in str(path):
            continue
        formats.check_path(path)
        if (real := os.path.realpath(path)) in read:
            check_apart(read[real], path)
        if not folders_of(path):
            formats.check_free(path, options.overwrite)


def _of_one(options: Options) -> Options:
    """The same for each source: some may be done, and others not begun."""
    return replace(options, resume=None) if options.resume else options
