"""The file of a result, begun or found: what it is to hold, and the array that is filled."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from fractions import Fraction
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

from outstride.errors import ArgumentError
from outstride.tiling import arrays
from outstride.tiling.budget import spelled
from outstride.tiling.files import formats
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.writers import FULL, MAKERS, Made, Wanted
from outstride.tiling.files.writers.disk import same_place
from outstride.tiling.files.writers.interface import NUMBERS, RESULT
from outstride.tiling.files.writers.ngff import USUAL_VERSION
from outstride.tiling.files.writers.sounds import HIGHEST_RATES
from outstride.tiling.results.asking import Options, ngff_version_of, scale_of
from outstride.tiling.running import TileRun
from outstride.tiling.streams.lengths import rate_of

#: Denominators up to which the quotient of two lengths is taken for a rate.
_DENOMINATOR = 16
#: Pixels a side, and channels, of a small file that is made to see how long a large one takes.
_TRIED, _TRIED_CHANNELS = 1024, 4


def wanted_of(model: torch.nn.Module, run: TileRun, out: Path, options: Options, place: int) -> Wanted:
    """The result that a file is to hold, with what it takes over from its source.

    ``place``: of the result among those that the model returns.
    """
    node = run.nodes()[place]
    array, shape = run.source, node.shape
    facts = replace(getattr(array, "facts", None) or Facts(), notes=[])
    suffix = formats.suffix_of(out)
    if suffix in HIGHEST_RATES and facts.rate is not None:
        _scale_rate(facts, _rate(model, run, shape, place), suffix)
    facts = facts.on(array.shape, shape, len(run.plan.tile))
    dtype = np.dtype(arrays.numpy_dtype(node.dtype))
    tile = run.outputs.tile_of(run.outputs.indices[place], run.plan.tile)
    scale = scale_of(options.output_range, options.output_bits)
    version = ngff_version_of(options.ngff_version)
    if options.ngff_version is not None and suffix != ".ome.zarr":
        raise ArgumentError(
            f"'ngff_version' must go with an OME-Zarr to make: got {out.name!r}; legal: a name that ends in "
            ".ome.zarr"
        )
    return Wanted(out.name, shape, dtype, tile, facts, *scale, version)


def words_of(wanted: Wanted, suffix: str) -> dict[str, Any]:
    """What decides about a file besides the numbers of its result."""
    facts = {name: value for name, value in asdict(wanted.facts).items() if name != "notes"}
    words = {
        "shape": wanted.shape, "dtype": str(wanted.dtype), "format": suffix, "name": wanted.name,
        "range": wanted.range_, "bits": wanted.bits, "facts": facts,
    }  # fmt: skip
    if wanted.ngff_version != USUAL_VERSION:
        words["ngff_version"] = wanted.ngff_version
    found: dict[str, Any] = json.loads(json.dumps(words))
    return found


def begun(folder: Path, out: Path, wanted: Wanted, fresh: bool) -> Made:
    """What a file is made with, begun in a folder, or found there.

    Raises:
        ArgumentError: the format cannot hold the result, there is no space, or what was there is gone.
    """
    suffix = formats.suffix_of(out)
    if not fresh and not any((folder / name).exists() for name in (RESULT, NUMBERS)):
        raise ArgumentError(
            f"'out' must be gone on with by what began it: got {folder.name!r} without its numbers; legal: "
            "resume=False (--no-resume), which begins anew"
        )
    with formats.one_sentence("out", out):
        if fresh and suffix in FULL:
            _check_space(out, prod(wanted.shape) * wanted.dtype.itemsize)
        return MAKERS[suffix](folder, wanted)


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(same_place(path).parent).free
    if size > free:
        raise OSError(f"it takes {spelled(size)}, and {spelled(free)} are free")


class Encoded:
    """The array of a file, filled with a model's numbers."""

    def __init__(self, made: Made, wanted: Wanted, out: Path) -> None:
        self._made, self._array = made, formats.Guarded(made.array, "out", out)
        self._wanted, self._out = wanted, out
        self._seen: Any = None
        self.shape, self.dtype = wanted.shape, wanted.dtype

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        counts = Counter[str]()
        self._array[key] = self._made.encode(part, counts)
        self._made.counts.update(counts)  # of what is written
        if self._seen is None and part.size:
            self._seen = part.copy()

    def seconds_to_end(self) -> float:
        """What it takes to make the file of the numbers, once all are there: tried on a small one.

        That one is filled with those that were written first, over and over.
        """
        seen = self._seen
        if seen is None or not prod(self._wanted.shape):
            return 0.0
        nd = len(self._wanted.tile)
        leading = self.shape[: len(self.shape) - nd]
        sides = [1] * max(nd - 2, 0) + [_TRIED if nd > 1 else _TRIED**2] * min(nd, 2)
        shape = (*(1 for _ in leading[:-1]), *(min(n, _TRIED_CHANNELS) for n in leading[-1:]), *sides)
        numbers = np.tile(seen, [ceil(n / m) for n, m in zip(shape, seen.shape, strict=True)])
        numbers = numbers[tuple(slice(0, n) for n in shape)]
        facts = replace(self._wanted.facts, notes=[])
        wanted = replace(self._wanted, shape=shape, tile=tuple(sides), facts=facts)
        taken = 0.0
        with suppress(OSError), TemporaryDirectory() as folder:  # the run does not end for want of space here
            made = MAKERS[formats.suffix_of(self._out)](Path(folder), wanted)
            made.array[tuple(slice(0, n) for n in shape)] = made.encode(numbers, Counter())
            made.finish()  # libraries are loaded
            started = perf_counter()
            made.finish()
            taken = perf_counter() - started
            made.close()
        return taken * prod(self.shape) / prod(shape)


def _scale_rate(facts: Facts, rate: Fraction, suffix: str) -> None:
    """A sound with twice the samples has twice as many a second."""
    exact = (facts.rate or 0) * rate
    if not 1 <= round(exact) <= HIGHEST_RATES[suffix]:
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a {suffix} of {float(exact):.4g} samples a "
            f"second; legal: 1 to {HIGHEST_RATES[suffix]}, or a .npy"
        )
    facts.rate = round(exact)
    if facts.rate != exact:
        facts.notes.append(f"{facts.rate} samples a second, where {float(exact):.9g} would be exact")


def _rate(model: torch.nn.Module, run: TileRun, shape: tuple[int, ...], place: int) -> Fraction:
    """Samples of a result for each of the source; of several sources, which grow together, about that."""
    before = run.source.shape
    if run.inputs.alone:
        return rate_of(model, before, run.dtype, shape, place)
    return Fraction(shape[-1], max(before[-1], 1)).limit_denominator(_DENOMINATOR)
