"""What `outstride tile` makes, and what it says of that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outstride.cli.screen import InterruptedWorkError


def places_in(folder: Path, sources: Sequence[str], ending: str | None) -> list[str]:
    """Where the result of each source goes: under its name, with another ending if one is asked for.

    Raises:
        ArgumentError: no such file can be made of one, or two have one name.
    """
    from outstride.errors import ArgumentError
    from outstride.tiling.files.formats import WRITABLE, suffix_of

    made = dict[str, str]()
    for source in sources:
        name = Path(source).name
        suffix = suffix_of(Path(source))
        wanted = suffix if ending is None else f".{ending.removeprefix('.')}"
        if suffix_of(Path(f"result{wanted}")) not in WRITABLE:
            raise ArgumentError(
                f"'--format' must be one that can be written: got {wanted} for {source!r}; legal: "
                f"{', '.join(WRITABLE)}"
            )
        place = str(folder / f"{name[: len(name) - len(suffix)]}{wanted}")
        if place in made:
            raise ArgumentError(
                f"'SOURCE' must be files of different names: got {made[place]!r} and {source!r}, which would "
                f"both become {place!r}; legal: another --out-dir for one of them"
            )
        made[place] = source
    return list(made)


def made_one(
    runs: Any, source: Any, out: str, options: Any, verify: int | None, as_json: bool
) -> dict[str, Any]:
    """Make the file of a source, or look at the one that is there, say so, and give the figures."""
    from time import perf_counter

    from outstride.tiling.files.addresses import is_address
    from outstride.tiling.results.partial import progress_of
    from outstride.tiling.results.single import make

    report: dict[str, Any] = {"out": out}
    if verify is None or options.overwrite or not _is_there(out):
        started = perf_counter()
        try:
            outcome = make(runs, source, out, options, _speaker(as_json))
        except KeyboardInterrupt:
            done = 0 if is_address(out) else progress_of(out)
            there = f"{done} tiles are done, the same command goes on" if done else f"no {out} was made"
            raise InterruptedWorkError(
                f"interrupted after {perf_counter() - started:.0f} s: {there}"
            ) from None
        report |= _made(outcome, out, perf_counter() - started, as_json)
    if verify is not None and report.get("whole", True):
        report |= _verified(runs, source, out, options, verify, as_json)
    return report


def made_each(
    runs: Any, sources: Sequence[Any], outs: Sequence[str], options: Any, verify: int | None, as_json: bool
) -> dict[str, Any]:
    """The same of any number of sources, one after the other."""
    from time import perf_counter

    from outstride.tiling.results.batches import make_each
    from outstride.tiling.results.partial import progress_of

    found, said, started = dict[str, dict[str, Any]](), set[str](), perf_counter()
    if verify is None or options.overwrite or not all(map(_is_there, outs)):
        begun = started
        try:
            for place, outcome in make_each(
                runs, sources, outs, options, lambda place: _speaker(as_json, place, said)
            ):
                found[place] = _made(outcome, place, perf_counter() - begun, as_json)
                begun = perf_counter()
        except KeyboardInterrupt:
            done = sum(progress_of(out) for out in outs if out not in found)
            there = f"{len(found)} of {len(outs)} results are made, and {done} tiles of the next"
            raise InterruptedWorkError(
                f"interrupted after {perf_counter() - started:.0f} s: {there}; the same command goes on"
            ) from None
    if verify is not None:
        for source, out in zip(sources, outs, strict=True):
            seen = _verified(runs, source, out, options, verify, as_json)
            found[out] = {"out": out, **found.get(out, {}), **seen}
    exact = all(one.get("exact", True) for one in found.values())
    return {"results": list(found.values()), "seconds": perf_counter() - started, "exact": exact}


def by_cluster(
    model: Any, source: Any, out: str, scheduler: str, sizes: Any, memory: Any, overwrite: bool, as_json: bool
) -> dict[str, Any]:
    """Have a cluster make an array, say so, and give the figures."""
    from time import perf_counter

    from outstride.tiling.clusters.workers import cluster_run_noting

    content: dict[str, Any] = {}

    def begins(spread: Any) -> None:
        content.update(spread.to_dict())
        if not as_json:
            print(spread)

    started = perf_counter()
    try:
        notes = cluster_run_noting(model, source, out, scheduler, sizes, memory, True, overwrite, begins)
    except KeyboardInterrupt:
        raise InterruptedWorkError(
            f"interrupted after {perf_counter() - started:.0f} s: no {out} was made"
        ) from None
    seconds = perf_counter() - started
    if not as_json:
        print("\n".join([f"saved: {out} in {seconds:.1f} s", *(f"  {note}" for note in notes)]))
    return {"out": out, **content, "seconds": seconds, "notes": list(notes)}


def say_leftovers(outs: Sequence[str], clean: bool, report: dict[str, Any], as_json: bool) -> None:
    """Name what other runs left beside results, or remove it."""
    from outstride.tiling.budget import spelled
    from outstride.tiling.results.partial import cleaned, folder_of, folders_of, leftovers

    own = {folder for out in outs for folder in folders_of(out)}
    places = {folder_of(Path(out)).parent for out in outs}
    found = [left for place in sorted(places) for left in leftovers(place) if left.folder not in own]
    if clean:
        found = cleaned(found)
    report["removed" if clean else "leftovers"] = [str(left.folder) for left in found]
    for left in () if as_json else found:
        of = f"{left.done} of {left.tiles} tiles of {left.name} that a run left ({spelled(left.bytes)})"
        print(f"removed: {of}" if clean else f"left over: {of}; its command goes on, --clean removes it")


def _speaker(as_json: bool, place: str = "", said: set[str] | None = None) -> Any:
    """Who says what is made, how many tiles were done, and how long it takes; nobody beside JSON.

    ``place``: of one of many results. ``said``: plans that were said, of which others like them are not.
    """
    from outstride.tiling.results.asking import Listener

    class Speaker(Listener):
        def begins(self, plan: Any, done: int) -> None:
            if said is None or str(plan) not in said:
                print(plan)
            if said is not None:
                said.add(str(plan))
            if done:
                print(f"  goes on       {done} of {len(plan)} tiles{f' of {place}' * bool(place)} were done")

        def goes_on(self, left: Any) -> None:
            print(f"  to go         {left}")

    return Listener() if as_json else Speaker()


def _made(outcome: Any, out: str, seconds: float, as_json: bool) -> dict[str, Any]:
    """Say what was made, and give the figures."""
    if not as_json:
        done = outcome.found + outcome.made
        made = ", ".join(outcome.out) if isinstance(outcome.out, list) else out
        saved = f"saved: {made} in {seconds:.1f} s"
        begun = f"begun: {done} of {outcome.tiles} tiles of {out}; the command without --only makes the rest"
        print("\n".join([saved if outcome.whole else begun, *(f"  {note}" for note in outcome.notes)]))
    return {
        "out": out, **outcome.plan.to_dict(), "seconds": seconds, "found": outcome.found,
        "made": outcome.made, "whole": outcome.whole, "notes": outcome.notes,
    }  # fmt: skip


def _verified(runs: Any, source: Any, out: str, options: Any, count: int, as_json: bool) -> dict[str, Any]:
    """Make some tiles once more, say whether they are the same, and give the figures."""
    from outstride.tiling import recheck

    scale = options.output_range, options.output_bits
    verdict = recheck(runs.model, source, out, count, runs.tile, runs.memory, *scale)
    if not as_json:
        print(f"verified: {verdict}")
    return {"verified": verdict.to_dict(), "exact": bool(verdict)}


def _is_there(out: str) -> bool:
    """Whether a result exists, or one of several, and no run for it has ended before its end."""
    from outstride.tiling.outputs import HERE
    from outstride.tiling.results.partial import folders_of, named

    return bool(named(out)) and not folders_of(out) if HERE in out else os.path.lexists(out)
