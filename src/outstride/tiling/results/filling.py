"""Results made as files: what an earlier run has made of them stays made.

A run may make several files. Each has a folder and a journal of its own, about the tiles of the finest, so
that each goes on by itself; all have their names, or none, before the first folder is removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.tiling.box import Box, shape_of
from outstride.tiling.budget import budget_of
from outstride.tiling.files import formats
from outstride.tiling.files.apart import check_apart
from outstride.tiling.files.writers import Made, Wanted
from outstride.tiling.files.writers.interface import UnfitError
from outstride.tiling.inputs import Inputs, opened
from outstride.tiling.outputs import HERE
from outstride.tiling.planning import TilePlan
from outstride.tiling.results.asking import Listener, Options, Outcome, asked_for
from outstride.tiling.results.beginning import Encoded, begun, wanted_of, words_of
from outstride.tiling.results.identity import belongs_to
from outstride.tiling.results.journal import Journal, Notes
from outstride.tiling.results.partial import Partial, folder_of, held, put
from outstride.tiling.running import Course, Runs, TileRun, sliding_axes
from outstride.tiling.showing import bar
from outstride.tiling.surroundings import Surroundings

Belongs = dict[str, Any]


@dataclass
class _Result:
    """One of the files of a run, while it is made."""

    partial: Partial
    place: int
    """Among those that the model returns."""
    wanted: Wanted
    belongs: Belongs | None
    """What it is made of, None where that cannot be known again."""

    def has(self, box: Box) -> bool:
        """Whether its part of a tile of the finest is there."""
        return self.partial.is_finished or self.partial.journal.covers(box)


class _Named:
    """Stands for the array of a result that is whole: it has all of its tiles."""

    def __init__(self, wanted: Wanted) -> None:
        self.shape, self.dtype = wanted.shape, wanted.dtype

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        raise AssertionError("a whole result is not written to")


def make_files(
    runs: Runs, inputs: Inputs, out: Any, options: Options, listener: Listener, keep: bool = False
) -> Outcome:
    """Files with the results of a model, gone on with where an ended run has left some of them.

    Args:
        runs: of the model.
        inputs, options: as a caller gives them.
        out: a path, one with ``HERE`` in it, or a path for each result.
        listener: who is told what becomes of them.
        keep: whether the journals of whole results stay, as more is to be made before all is done.
    """
    places = places_of(out)
    _check(inputs, places, options)
    with ExitStack() as stack:
        partials = [stack.enter_context(held(place)) for place in places]
        _check_going_on(partials, options)
        stack.enter_context(_threads(partials))
        read = stack.enter_context(opened(inputs, sliding_axes(runs.model)))
        run = runs.of(read, out)
        if not partials:
            places = list(map(Path, run.outputs.places(str(out))))
            _check(inputs, places, options)
            partials = [stack.enter_context(held(place)) for place in places]
            _check_going_on(partials, options)
            if stack.enter_context(_threads(partials)):
                run = runs.of(read, out)
        check_count(run, out, places)
        results = _results(runs.model, run, inputs, partials, options)
        lost = sum(partial.journal.lost for partial in partials)
        for result in results:
            result.partial.check(result.belongs)
        outcome = Outcome(_as_given(out, places), run.plan, len(run.plan), found=len(run.plan))
        if lost:
            outcome.notes.append(
                f"{lost} tiles were made again: a line of the journal before theirs was damaged"
            )
        if not _are_named(partials):
            _take_over(run, partials, runs)
            _fill(run, results, outcome, options, listener)
        if outcome.whole:
            for partial in partials:
                (Partial.empty if keep else Partial.remove)(partial)
        return outcome


def places_of(out: Any) -> list[Path]:
    """Where results go, as a caller names it: none of a path in which names come, which the model knows."""
    if isinstance(out, (str, Path)):
        return [] if HERE in str(out) else [Path(out)]
    places = [Path(place) for place in (out.values() if isinstance(out, Mapping) else out)]
    if len({*places}) < len(places):
        raise ArgumentError(
            f"'out' must name another place for each result: got {', '.join(map(str, places))}; legal: "
            "other names"
        )
    return places


def _as_given(out: Any, places: Sequence[Path]) -> Any:
    """What a caller is told of where results are."""
    if isinstance(out, (str, Path)):
        return [str(place) for place in places] if HERE in str(out) else places[0]
    return out


def _check(inputs: Inputs, places: Sequence[Path], options: Options) -> None:
    """Refuse places before anything is computed for them."""
    for place in places:
        for source in inputs.sources:
            check_apart(source, place)
        formats.check_path(place)
    if not any(folder_of(place).exists() for place in places):
        for place in places:
            formats.check_free(place, options.overwrite)


def _check_going_on(partials: Sequence[Partial], options: Options) -> None:
    """Refuse what is to go on with nothing, and what would take the place of something else."""
    if options.resume is False:
        for partial in partials:
            partial.restart()
    elif options.resume and partials and not any(partial.journal.done for partial in partials):
        raise ArgumentError(
            f"'resume' must have something to go on with: got no {partials[0].folder.name!r} with tiles in "
            "it; legal: without it"
        )
    if not _are_named(partials):
        for partial in partials:
            if not partial.is_finished:
                formats.check_free(partial.out, options.overwrite)


def _are_named(partials: Sequence[Partial]) -> bool:
    """Whether all results have their names: folders are removed only then, so one that is there tells."""
    return any(partial.is_finished for partial in partials) and all(
        partial.is_finished or (partial.journal.belongs is None and os.path.lexists(partial.out))
        for partial in partials
    )


def check_count(run: TileRun, out: Any, places: Sequence[Path]) -> None:
    """Refuse another number of files than of results."""
    names = run.outputs.names
    if len(places) == len(names):
        return
    if not isinstance(out, (str, Path)):
        run.outputs.targets(out)
    suffix = formats.suffix_of(places[0])
    several = f"{places[0].name.removesuffix(suffix)}.{HERE}{suffix}"
    raise ArgumentError(
        f"'out' must name a file for each of the {len(names)} tensors that 'model' returns: got "
        f"{str(places[0])!r}; legal: {several!r}, in which {HERE} becomes {', '.join(names)}"
    )


def _results(
    model: torch.nn.Module, run: TileRun, inputs: Inputs, partials: Sequence[Partial], options: Options
) -> list[_Result]:
    """What each file is to hold, and what decides about it."""
    known, results = belongs_to(run.program.graph, inputs, run.inputs), list[_Result]()
    for place, partial in enumerate(partials):
        wanted = wanted_of(model, run, partial.out, options, place)
        words = words_of(wanted, formats.suffix_of(partial.out))
        belongs = None if known is None else {**known, "result": words}
        identity = blake2b(json.dumps(belongs).encode(), digest_size=8).hexdigest()
        results.append(_Result(partial, place, replace(wanted, identity=identity), belongs))
    return results


def _fill(
    run: TileRun, results: Sequence[_Result], outcome: Outcome, options: Options, listener: Listener
) -> None:
    """Make the tiles that are not there, and of them the files, if none is missing."""
    plan, left = run.plan, [result for result in results if not result.partial.is_finished]
    if options.only is not None and any(result.belongs is None for result in left):
        raise ArgumentError(
            "'only' must go with a source that can be known again: got an array of another library; legal: a "
            "file, a tensor or an array of NumPy"
        )
    asked, made = asked_for(options.only, plan), dict[int, Made]()
    outcome.plan, outcome.tiles, outcome.found = plan, len(plan), 0
    try:
        for result in left:
            made[result.place] = _begun(run, result)
        if any(result.partial.journal.done for result in left):
            outcome.found = sum(all(result.has(box) for result in left) for box in plan.boxes())
        listener.begins(plan, outcome.found)
        _make(run, results, made, outcome, Course(options.progress, asked, goes_on=listener.goes_on))
        outcome.whole = outcome.found + outcome.made == len(plan)
        if outcome.whole:
            with bar(len(left), options.progress) as shown:
                for result in shown(left, "files of the numbers", 1):
                    with formats.one_sentence("out", result.partial.out):
                        made[result.place].finish()
        for result in left:
            one = made[result.place]
            named = f"{result.partial.out.name}: " if len(results) > 1 else ""
            outcome.notes += [
                f"{named}{note}" for note in result.wanted.facts.notes + one.encode.notes(one.counts)
            ]
    except UnfitError:
        for result in left:
            result.partial.restart()
        raise
    finally:
        for one in made.values():
            one.close()
    if outcome.whole:
        put([result.partial for result in left])


def _begun(run: TileRun, result: _Result) -> Made:
    """The array of a result, and a line about it in its journal."""
    partial, journal = result.partial, result.partial.journal
    tile = run.outputs.tile_of(run.outputs.indices[result.place], run.plan.tile)
    result.wanted = replace(result.wanted, tile=tile)
    made = begun(partial.folder, partial.out, result.wanted, fresh=not journal.done)
    made.counts.update(journal.counts)
    with formats.one_sentence("out", partial.out):
        belongs = {**(result.belongs or {}), "threads": torch.get_num_threads()}
        journal.begin(belongs, run.outputs.shape, _steps(run.plan))
    return made


def _make(
    run: TileRun, results: Sequence[_Result], made: dict[int, Made], outcome: Outcome, course: Course
) -> None:
    """Fill the arrays, and write down what is in them."""
    targets, notes, course_asked = list[Any](), dict[int, Notes](), course.asked
    for result in results:
        one, place = made.get(result.place), result.place
        if one is None:
            targets.append(_Named(result.wanted))
            continue
        targets.append(Encoded(one, result.wanted, result.partial.out))
        if result.belongs is not None:
            index = run.outputs.indices[place]

            def sync(boxes: Sequence[Box], one: Made = one, index: int = index) -> None:
                one.sync([run.outputs.boxes(box)[index] for box in boxes])

            notes[place] = Notes(result.partial.journal, sync, one.counts)

    def written(box: Box) -> None:
        outcome.made += 1
        for place, those in notes.items():
            if not results[place].has(box):
                with formats.one_sentence("out", results[place].partial.out):
                    those.add(box)

    def ending() -> float:
        filled = [target for target in targets if isinstance(target, Encoded)]
        return sum(target.seconds_to_end() for target in filled)

    whole = all(course.asked(box) for box in run.plan.boxes())
    course = replace(
        course, written=written, has=lambda place, box: results[place].has(box),
        ending=ending if whole else float,
        asked=lambda box: course_asked(box) and not all(result.has(box) for result in results),
    )  # fmt: skip
    try:
        run(targets if len(targets) > 1 else targets[0], course)
    except BaseException:
        for those in notes.values():
            with suppress(OSError):
                those.flush()
        raise
    for place, those in notes.items():
        with formats.one_sentence("out", results[place].partial.out):
            those.flush()


def _take_over(run: TileRun, partials: Sequence[Partial], runs: Runs) -> None:
    """Go on in the tiles of before, where nobody says others and they fit."""
    journal = _telling(partials)
    if runs.tile is None and journal is not None and journal.tile is not None:
        before, chosen = journal.tile[-len(run.plan.tile) :], run.plan
        run.take(before)
        if run.plan.peak_bytes > budget_of(runs.memory):
            run.plan = chosen


def _telling(partials: Sequence[Partial]) -> Journal | None:
    """A journal that says how a run was begun."""
    return next((partial.journal for partial in partials if partial.journal.done), None)


def _steps(plan: TilePlan) -> tuple[int, ...]:
    """The size of a tile on every axis."""
    first = next(iter(plan.boxes()), None)
    return tuple(max(n, 1) for n in (plan.output_shape if first is None else shape_of(first)))


@contextmanager
def _threads(partials: Sequence[Partial]) -> Iterator[bool]:
    """With as many threads as results were begun with, if torch's functions depend on it: whether others."""
    journal, here = _telling(partials), Surroundings.now()
    threads = here.threads if journal is None else int((journal.belongs or {}).get("threads", here.threads))
    with here._replace(threads=threads).entered():
        yield threads != here.threads
