"""A result made as a file: what an earlier run has made of it stays made."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from hashlib import blake2b
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outstride.errors import ArgumentError
from outstride.tiling import arrays
from outstride.tiling.box import Box, shape_of
from outstride.tiling.budget import budget_of, spelled
from outstride.tiling.files import formats
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.writers import FULL, MAKERS, Made, Wanted
from outstride.tiling.files.writers.disk import same_place
from outstride.tiling.files.writers.interface import NUMBERS, RESULT, UnfitError
from outstride.tiling.files.writers.sounds import HIGHEST_RATES
from outstride.tiling.inputs import Inputs, opened
from outstride.tiling.outputs import HERE
from outstride.tiling.planning import TilePlan
from outstride.tiling.results.identity import belongs_to
from outstride.tiling.results.journal import Journal, Notes
from outstride.tiling.results.partial import Partial, folder_of, held
from outstride.tiling.running import TileRun, sliding_axes
from outstride.tiling.streams.lengths import rate_of
from outstride.tiling.surroundings import Surroundings

#: Denominators up to which the quotient of two lengths is taken for a rate.
_DENOMINATOR = 16

Boxes = Sequence[Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Options:
    """How a result is made."""

    tile: int | Sequence[int] | None = None
    memory: int | str | None = None
    progress: bool = True
    overwrite: bool = False
    output_range: tuple[float, float] | None = None
    output_bits: int | None = None
    resume: bool | None = None
    only: Boxes | None = None
    scratch: str | Path | None = None


@dataclass
class Outcome:
    """What became of a result."""

    out: Any
    plan: TilePlan
    tiles: int
    """All tiles of the result."""
    found: int = 0
    """Those that an earlier run had made."""
    made: int = 0
    """Those that were made now."""
    whole: bool = True
    notes: list[str] = field(default_factory=list)


def make_file(
    model: torch.nn.Module,
    inputs: Inputs,
    out: Path,
    options: Options,
    begins: Callable[[TilePlan, int], object],
) -> Outcome:
    """A file with the result of a model, gone on with where an ended run has left some of it.

    ``begins`` is told the plan, and how many tiles are done, once the file can be filled.
    """
    formats.check_path(out)
    if not folder_of(out).exists():
        formats.check_free(out, options.overwrite)
    with held(out) as partial:
        if options.resume is False:
            partial.restart()
        elif options.resume and not partial.journal.done:
            raise ArgumentError(
                f"'resume' must have something to go on with: got no {partial.folder.name!r} with tiles in "
                "it; legal: without it"
            )
        if not partial.is_finished:
            formats.check_free(out, options.overwrite)
        with _threads(partial.journal), opened(inputs, sliding_axes(model)) as read:
            run = TileRun(model, read, options.tile, options.memory, out, options.scratch)
            _check_one(run, out)
            wanted = wanted_of(
                model, run, out, scale_of(options.output_range, options.output_bits), run.output
            )
            belongs = belongs_to(
                run.program.graph, inputs, run.inputs, _words(wanted, formats.suffix_of(out))
            )
            partial.check(belongs)
            if partial.is_finished:
                partial.remove()
                return Outcome(out, run.plan, len(run.plan), found=len(run.plan))
            formats.check_free(out, options.overwrite)
            _take_over(run, partial.journal, options)
            identity = blake2b(json.dumps(belongs).encode(), digest_size=8).hexdigest()
            wanted = replace(wanted, tile=run.plan.tile, identity=identity)
            return _fill(run, partial, wanted, belongs, options, begins)


def _fill(
    run: TileRun, partial: Partial, wanted: Wanted, belongs: dict[str, Any] | None, options: Options,
    begins: Callable[[TilePlan, int], object],
) -> Outcome:  # fmt: skip
    """Make the tiles that are not there, and of them the file, if none is missing."""
    journal, plan = partial.journal, run.plan
    if belongs is None and options.only is not None:
        raise ArgumentError(
            "'only' must go with a source that can be known again: got an array of another library; legal: a "
            "file, a tensor or an array of NumPy"
        )
    made = begun(partial.folder, partial.out, wanted, fresh=not journal.done)
    outcome = Outcome(
        partial.out, plan, len(plan), found=sum(map(journal.covers, plan.boxes())) if journal.done else 0
    )
    asked = asked_for(options.only, plan)
    try:
        made.counts.update(journal.counts)
        with formats.one_sentence("out", partial.out):
            journal.begin(_with_threads(belongs), wanted.shape, _steps(plan))
        begins(plan, outcome.found)
        notes = Notes(journal, made.sync, made.counts)

        def written(box: Box) -> None:
            outcome.made += 1
            if belongs is not None:
                with formats.one_sentence("out", partial.out):
                    notes.add(box)

        try:
            run(
                Encoded(made, wanted, partial.out),
                options.progress,
                lambda box: asked(box) and not journal.covers(box),
                written,
            )
        except BaseException:
            with suppress(OSError):
                notes.flush()
            raise
        with formats.one_sentence("out", partial.out):
            notes.flush()
            outcome.whole = outcome.found + outcome.made == len(plan)
            if outcome.whole:
                made.finish()
        outcome.notes = wanted.facts.notes + made.encode.notes(made.counts)
    except UnfitError:
        partial.restart()
        raise
    finally:
        made.close()
    if outcome.whole:
        with formats.one_sentence("out", partial.out):
            partial.put()
    return outcome


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


class Encoded:
    """The array of a file, filled with a model's numbers."""

    def __init__(self, made: Made, wanted: Wanted, out: Path) -> None:
        self._made, self._array = made, formats.Guarded(made.array, "out", out)
        self.shape, self.dtype = wanted.shape, wanted.dtype

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        counts = Counter[str]()
        self._array[key] = self._made.encode(part, counts)
        self._made.counts.update(counts)  # of what is written


def wanted_of(
    model: torch.nn.Module, run: TileRun, out: Path, scale: Scale, index: int, place: int = 0
) -> Wanted:
    """The result that a file is to hold, with what it takes over from its source.

    ``scale``: of a result of integers; ``index``: of the tensor in the graph, ``place``: among those that
    the model returns.
    """
    node = run.nodes()[index]
    array, shape = run.source, node.shape
    facts = replace(getattr(array, "facts", None) or Facts(), notes=[])
    suffix = formats.suffix_of(out)
    if suffix in HIGHEST_RATES and facts.rate is not None:
        _scale_rate(facts, _rate(model, run, shape, place), suffix)
    facts = facts.on(array.shape, shape, len(run.plan.tile))
    dtype = np.dtype(arrays.numpy_dtype(node.dtype))
    return Wanted(out.name, shape, dtype, run.plan.tile, facts, *scale)


def _words(wanted: Wanted, suffix: str) -> dict[str, Any]:
    """What decides about a file besides the numbers of its result."""
    facts = {name: value for name, value in asdict(wanted.facts).items() if name != "notes"}
    words = {
        "shape": wanted.shape, "dtype": str(wanted.dtype), "format": suffix, "name": wanted.name,
        "range": wanted.range_, "bits": wanted.bits, "facts": facts,
    }  # fmt: skip
    found: dict[str, Any] = json.loads(json.dumps(words))
    return found


Scale = tuple["tuple[float, float] | None", int]
"""The numbers that are black and white in a result of integers, None where it has its own; and their bits."""


def scale_of(range_: Any, bits: Any) -> Scale:
    """What a caller says of it.

    Raises:
        ArgumentError: it is no scale.
    """
    if bits is not None and range_ is None:
        raise ArgumentError(
            f"'output_bits' must go with 'output_range': got {bits!r} alone; legal: output_range=(0, 1)"
        )
    if bits not in (None, 8, 16):
        raise ArgumentError(f"'output_bits' must be 8 or 16: got {bits!r}; legal: 16")
    return _checked_range(range_), bits or 8


def _checked_range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    pair = given if isinstance(given, (tuple, list)) else ()
    numbers = [number for number in pair if isinstance(number, (int, float)) and isfinite(number)]
    if len(pair) != 2 or len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise ArgumentError(
            f"'output_range' must be two numbers, the lower one first: got {given!r}; legal: (0, 1)"
        )
    return float(numbers[0]), float(numbers[1])


def _take_over(run: TileRun, journal: Journal, options: Options) -> None:
    """Go on in the tiles of before, where nobody says others and they fit."""
    if options.tile is None and journal.tile is not None and journal.done:
        before, chosen = journal.tile[-len(run.plan.tile) :], run.plan
        run.take(before)
        if run.plan.peak_bytes > budget_of(options.memory):
            run.plan = chosen


def _steps(plan: TilePlan) -> tuple[int, ...]:
    """The size of a tile on every axis."""
    first = next(iter(plan.boxes()), None)
    return tuple(max(n, 1) for n in (plan.output_shape if first is None else shape_of(first)))


@contextmanager
def _threads(journal: Journal) -> Iterator[None]:
    """With as many threads as a result was begun with: torch's functions depend on it."""
    threads = (journal.belongs or {}).get("threads") if journal.done else None
    here = Surroundings.now()
    with (here if threads is None else here._replace(threads=int(threads))).entered():
        yield


def _with_threads(belongs: dict[str, Any] | None) -> dict[str, Any]:
    return {**(belongs or {}), "threads": torch.get_num_threads()}


def asked_for(only: Boxes | None, plan: TilePlan) -> Callable[[Box], bool]:
    """Whether a tile has a part in one of the boxes that somebody asked for."""
    if only is None:
        return lambda _: True
    nd, shape = len(plan.tile), plan.output_shape
    for box in only:
        if not _is_box(box, shape[-nd:]):
            raise ArgumentError(
                f"'only' must name boxes of the result's last {nd} axes: got {box!r} of "
                f"{tuple(shape[-nd:])}; legal: {tuple((0, n) for n in shape[-nd:])}"
            )

    def asked(tile: Box) -> bool:
        return any(
            all(a < end and start < b for (a, b), (start, end) in zip(tile[-nd:], box, strict=True))
            for box in only
        )

    return asked


def _is_box(box: Any, sizes: Sequence[int]) -> bool:
    """Whether something is an interval that is not empty for each of these sizes."""
    if not isinstance(box, (tuple, list)):
        return False
    pairs = [side for side in box if isinstance(side, (tuple, list)) and len(side) == 2]
    return len(pairs) == len(box) == len(sizes) and all(
        0 <= start < stop <= n for (start, stop), n in zip(pairs, sizes, strict=True)
    )


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


def _check_one(run: TileRun, out: Path) -> None:
    """Refuse to put several results into one file."""
    names = run.outputs.names
    if len(names) > 1:
        several = f"{out.name.removesuffix(formats.suffix_of(out))}.{HERE}{formats.suffix_of(out)}"
        raise ArgumentError(
            f"'out' must name a file for each of the {len(names)} tensors that 'model' returns: got "
            f"{str(out)!r}; legal: {several!r}, in which {HERE} becomes {', '.join(names)}"
        )


def _rate(model: torch.nn.Module, run: TileRun, shape: tuple[int, ...], place: int) -> Fraction:
    """Samples of a result for each of the source; of several sources, which grow together, about that."""
    before = run.source.shape
    if run.inputs.alone:
        return rate_of(model, before, run.dtype, shape, place)
    return Fraction(shape[-1], max(before[-1], 1)).limit_denominator(_DENOMINATOR)


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(same_place(path).parent).free
    if size > free:
        raise OSError(f"it takes {spelled(size)}, and {spelled(free)} are free")
