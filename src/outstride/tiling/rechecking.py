"""``recheck``: tiles of a finished file made once more, and compared with what is in it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from outstride.errors import ArgumentError
from outstride.tiling.box import Box, elements, slices
from outstride.tiling.files import formats
from outstride.tiling.files.writers import MAKERS, Wanted
from outstride.tiling.files.writers.interface import Encoder
from outstride.tiling.inputs import opened as opened_inputs
from outstride.tiling.results.asking import Options
from outstride.tiling.results.beginning import wanted_of
from outstride.tiling.results.filling import check_count, places_of
from outstride.tiling.running import TileRun, check_model, sliding_axes
from outstride.tiling.verifying import ROUNDING, Verdict, joined


def recheck(
    model: torch.nn.Module,
    source: Any,
    out: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    tiles: int = 8,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    output_range: tuple[float, float] | None = None,
    output_bits: int | None = None,
) -> Verdict:
    """Make some tiles of a finished file once more and compare them with what is in it.

    Args:
        model, source, tile, memory, output_range, output_bits: as ``tile_run`` was given them.
        out: the file that it made, of a format that keeps the numbers: not a .jpg, .flac or .nii.gz, and a
            .png of integers, masks or with ``output_range``. Of several results all of them, as they were
            named there.
        tiles: how many, chosen at random.

    Returns:
        A ``Verdict``: true if every bit agrees. A file that was made with another number of threads may
        differ by rounding where torch's functions depend on it.

    Raises:
        ArgumentError: the file holds something else, or no numbers.

    Example:
        >>> from outstride.tiling import tile_run
        >>> model, x = torch.nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 32, 32)
        >>> with TemporaryDirectory() as folder:
        ...     print(recheck(model, x, tile_run(model, x, Path(folder) / "y.npy")))
        every bit of 1800 elements agrees with the whole
    """
    check_model(model)
    if tiles < 1:
        raise ArgumentError(f"'tiles' must be a number of tiles: got {tiles!r}; legal: 8")
    places = places_of(out)
    for path in places:
        formats.check_path(path)
    options = Options(output_range=output_range, output_bits=output_bits)
    with ExitStack() as stack:
        inputs = stack.enter_context(opened_inputs(source, sliding_axes(model)))
        run = TileRun(model, inputs, tile, memory, out)
        paths = places or list(map(Path, run.outputs.places(str(out))))
        check_count(run, out, paths)
        files = [
            stack.enter_context(_opened(wanted_of(model, run, path, options, place), path))
            for place, path in enumerate(paths)
        ]
        boxes = _chosen(list(run.plan.boxes()), tiles)
        made = run.tiles(boxes)
        verdicts = []
        for index, path, (there, encode) in zip(run.outputs.indices, paths, files, strict=True):
            compared = [
                (part, there[slices(part)], encode(parts[index].numpy(), Counter()))
                for part, parts in zip((run.outputs.boxes(box)[index] for box in boxes), made, strict=True)
                if elements(part)
            ]
            verdicts.append(_verdict(compared, path.name if len(paths) > 1 else ""))
        return joined(verdicts)


@contextmanager
def _opened(wanted: Wanted, path: Path) -> Iterator[tuple[formats.Guarded, Encoder]]:
    """A finished file as an array, and what makes a model's numbers those of the file."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        made = MAKERS[formats.suffix_of(path)](Path(folder), wanted)
        stack.callback(made.close)
        if made.again is None:
            raise ArgumentError(
                f"'out' must be a file that keeps the numbers: got {str(path)!r}; legal: a .npy, .zarr, "
                ".tif, .wav or .nii, or a .png of integers"
            )
        with formats.one_sentence("made", path):
            there = formats.Guarded(stack.enter_context(made.again(path)), "made", path)
        if there.shape != wanted.shape or there.dtype != made.encode.dtype:
            raise ArgumentError(
                f"'out' must hold the result of the model: got {there.shape} of {there.dtype} in "
                f"{str(path)!r}; legal: {wanted.shape} of {made.encode.dtype}"
            )
        yield there, made.encode


def _chosen(boxes: list[Box], count: int) -> list[Box]:
    full = [box for box in boxes if elements(box)] or boxes
    return random.SystemRandom().sample(full, min(count, len(full)))


def _verdict(tiles: Sequence[tuple[Box, Any, Any]], name: str) -> Verdict:
    """What is there and what was made, tile by tile; ``name``: of a file among several."""
    different, largest, scale, first, unit = 0, 0.0, 0.0, None, 0.0
    for box, there, made in tiles:
        wrong = ~((there == made) | ((there != there) & (made != made)))
        with np.errstate(invalid="ignore"):
            distances = np.nan_to_num(np.abs(there.astype(np.float64) - made.astype(np.float64)), nan=np.inf)
        scale = max(scale, float(np.nanmax(np.abs(made.astype(np.float64)), initial=0)))
        unit = float(np.finfo(made.dtype).eps) if made.dtype.kind == "f" else 0.0
        if wrong.any():
            different, largest = different + int(wrong.sum()), max(largest, float(distances[wrong].max()))
            first = first or tuple(int(i) + a for i, (a, _) in zip(np.argwhere(wrong)[0], box, strict=True))
    count = sum(elements(box) for box, _, _ in tiles)
    return Verdict(count, different, largest, scale, first, (), largest <= ROUNDING * unit * scale, name)
