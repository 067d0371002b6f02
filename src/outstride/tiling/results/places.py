"""Where results go that are not all files of this machine: arrays, addresses and files side by side.

A file among them is whole in the end, or not there: nobody knows what was in an array, so nothing is gone on
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from outstride.tiling import arrays
from outstride.tiling.files import addresses, formats
from outstride.tiling.files.apart import check_apart
from outstride.tiling.files.readers import File
from outstride.tiling.results.asking import Options
from outstride.tiling.results.beginning import Encoded, begun, wanted_of
from outstride.tiling.results.partial import held, put
from outstride.tiling.running import TileRun


def check_place(sources: Sequence[Any], place: Any, options: Options) -> None:
    """Refuse a place before anything is computed for it."""
    if addresses.is_address(place):
        for source in sources:
            addresses.check(place, options.overwrite, source.path if isinstance(source, File) else source)
        return
    for source in sources:
        check_apart(source, place)
    if isinstance(place, (str, Path)):
        formats.check_path(Path(place))
        formats.check_free(Path(place), options.overwrite)


@contextmanager
def target(
    model: torch.nn.Module, run: TileRun, place: int, out: Any, options: Options, notes: list[str]
) -> Iterator[Any]:
    """An array to fill: the caller's, or that of a file or an address, which is whole in the end or none."""
    node = run.nodes()[place]
    if addresses.is_address(out):
        with formats.created_at(out, node.shape, arrays.numpy_dtype(node.dtype)) as array:
            yield array
    elif isinstance(out, (str, Path)):
        with held(Path(out)) as partial:
            partial.restart()
            wanted = wanted_of(model, run, Path(out), options, place)
            made = begun(partial.folder, partial.out, wanted, fresh=True)
            try:
                yield Encoded(made, wanted, partial.out)
                with formats.one_sentence("out", partial.out):
                    made.finish()
                notes += wanted.facts.notes + made.encode.notes(made.counts)
            except BaseException:
                made.close()
                partial.restart()
                raise
            made.close()
            put([partial])
            partial.remove()
    else:
        yield out
