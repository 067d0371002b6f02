"""The results of one source: in files that are gone on with, in arrays, or at addresses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.files import addresses, formats
from outstride.tiling.inputs import Inputs
from outstride.tiling.inputs import opened as opened_inputs
from outstride.tiling.outputs import HERE
from outstride.tiling.results.asking import Listener, Options, Outcome, asked_for
from outstride.tiling.results.filling import make_files
from outstride.tiling.results.places import check_place, target
from outstride.tiling.running import Course, Runs, sliding_axes


def make(
    runs: Runs, source: Any, out: Any, options: Options, listener: Listener | None = None, keep: bool = False
) -> Outcome:
    """What a model makes of a source.

    Args:
        runs: of the model.
        source, out, options: as a caller gives them.
        listener: who is told what becomes of it.
        keep: as ``make_files`` has it.
    """
    listener = listener or Listener()
    inputs, places = Inputs.of(source).mapped(formats.file_of), _places(out)
    if files_of(out):
        return make_files(runs, inputs, out, options, listener, keep)
    for place in places:
        if HERE not in str(place):
            check_place(inputs.sources, place, options)
    some = any(isinstance(place, (str, Path)) for place in places)
    local = any(isinstance(place, (str, Path)) and not addresses.is_address(place) for place in places)
    for name in ("resume", *["only"] * some, *["output_range", "output_bits", "ngff_version"] * (not local)):
        if getattr(options, name) is not None:
            raise ArgumentError(
                f"'{name}' must go with files to make, the paths of which are 'out': got {str(out)[:80]!r}; "
                "legal: such a path"
            )
    with ExitStack() as opened:
        arrays = opened.enter_context(opened_inputs(inputs, sliding_axes(runs.model)))
        run = runs.of(arrays, out)
        if isinstance(out, str) and HERE in out:
            out = run.outputs.places(out)
            for place in out:
                check_place(inputs.sources, place, options)
        notes, targets = list[str](), run.outputs.targets(out)
        filled = [
            opened.enter_context(target(runs.model, run, place, given, options, notes))
            for place, given in enumerate(targets)
        ]
        listener.begins(run.plan, 0)
        asked = asked_for(options.only, run.plan)
        made = run(_as_given(out, filled), Course(options.progress, asked, goes_on=listener.goes_on))
    return Outcome(out if some else made, run.plan, len(run.plan), notes=notes)


def files_of(out: Any) -> list[Path]:
    """The paths of results that are all files of this machine; none where one is an array or an address."""
    places = _places(out)
    local = [place for place in places if isinstance(place, (str, Path)) and not addresses.is_address(place)]
    return list(map(Path, local)) if len(local) == len(places) else []


def _places(out: Any) -> list[Any]:
    """Where results go, as a caller names it."""
    if out is None:
        return []
    if isinstance(out, Mapping):
        return list(out.values())
    return list(out) if isinstance(out, (list, tuple)) else [out]


def _as_given(out: Any, filled: list[Any]) -> Any:
    """What is filled, one or several as the caller has it."""
    if out is None:
        return None
    return filled if isinstance(out, (Mapping, list, tuple)) else filled[0]
