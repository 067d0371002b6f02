"""The answers of the page, one function for each question; each takes and gives plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from math import prod
from typing import Any

from outstride.errors import ArgumentError, OutstrideError
from outstride.geometry import output_size, solve
from outstride.layer.spec import ConvSpec
from outstride.studio.offers import Offer, offers, respelt
from outstride.studio.patterns import pattern_of
from outstride.studio.questions import (
    Edited,
    edited_of,
    fields_in,
    fields_of,
    fitting,
    layer_text,
    size_of,
    text_of,
)
from outstride.studio.sizes import size_rows
from outstride.studio.speed import plan_of, race
from outstride.studio.views import Shown, shown
from outstride.studio.writing import as_solution, writings

Answer = dict[str, Any]
_MOST_SOLUTIONS = 12
#: What is shown of a layer that names no size and cannot be followed at the one that it would be given.
_USUAL_SIZE = 5


def layer(question: Mapping[str, Any]) -> Answer:
    """A layer with everything that its stage shows; where it is illegal, why, and what would be legal."""
    try:
        text = layer_text(question)
    except ArgumentError as error:
        return refusal(str(error), question, "")
    try:
        spec = ConvSpec.parse(text, "layer")
    except OutstrideError as error:
        return refusal(str(error), question, text)
    size = size_of(question, "size", spec.nd)
    try:
        if size is not None:
            output_size(spec, size)
    except OutstrideError as error:
        return refusal(str(error), question, text, fields_of(spec))
    found, why_not = _followed(spec, size, edited_of(question))
    if found is not None:
        size = found.example.x.shape
    size = size or (_USUAL_SIZE,) * spec.nd
    ways = [] if found is not None else _followable(spec)
    return {
        "layer": repr(spec),
        "fields": fields_of(spec),
        "size": "x".join(map(str, size)),
        "output": "x".join(map(str, output_size(spec, size))),
        "sizes": size_rows(spec, size),
        "merits": [
            {"topic": reason.topic, "good": reason.good, "text": reason.text}
            for reason in as_solution(spec, size).reasons
            if reason.topic not in ("torch", "keras", "onnx")
        ],
        "writings": [writing.to_dict() for writing in writings(spec, size)],
        **_stage(found, why_not, text_of(question, "view")),
        "ways": [way.to_dict() for way in ways],
    }


def _followed(spec: ConvSpec, size: tuple[int, ...] | None, edited: Edited) -> tuple[Shown | None, str]:
    """What explains the layer, or the sentence that says why nothing does."""
    try:
        return shown(spec, size, edited), ""
    except OutstrideError as error:
        return None, str(error)


def _followable(spec: ConvSpec) -> list[Offer]:
    """The same layer at a size at which it can be followed, where there is one."""
    for size in (None, (1,) * spec.nd):
        found, _ = _followed(spec, size, edited_of({}))
        if found is not None:
            shape = found.example.x.shape
            return [Offer(f"input {'x'.join(map(str, shape))}", repr(spec), shape)]
    return []


def _stage(found: Shown | None, why_not: str, view: str) -> Answer:
    if found is None:
        return {"views": [], "scene": None, "readings": [], "numbers": None, "why_not": why_not}
    return {
        "views": list(found.explanation.views),
        "scene": found.scene_json(view),
        "readings": [reading.to_dict() for reading in found.readings()],
        "numbers": found.numbers(),
        "why_not": "",
    }


def refusal(
    sentence: str,
    question: Mapping[str, Any],
    text: str,
    fields: Mapping[str, Any] | None = None,
) -> Answer:
    """Why a layer is none, and the nearest that are."""
    known = fields or fields_in(text)
    ways = respelt(text, sentence)
    if known:
        try:
            size = size_of(question, "size", known["nd"])
        except ArgumentError:
            size = None
        ways += offers(known, size, sentence)
    return {"refused": sentence, "offers": [way.to_dict() for way in ways]}


def solutions(question: Mapping[str, Any]) -> Answer:
    """The solver's layers for two sizes or a scale, the best first."""
    kind = text_of(question, "kind") or None
    nd = question.get("nd", 2)
    if nd not in (1, 2, 3):
        raise ArgumentError(f"'nd' must be a number of axes: got {str(nd)[:20]}; legal: 1, 2 or 3")
    asked: dict[str, Any] = {"scale": text_of(question, "scale")}
    if not asked["scale"]:
        asked = {name: size_of(question, name, nd) for name in ("input_size", "output_size")}
    channels = {name: question.get(name) for name in ("in_channels", "out_channels")}
    bare = kind is not None and kind.endswith("pool")
    found = solve(**asked, kind=kind, nd=nd, **({} if bare else channels))  # type: ignore[arg-type]
    return {
        "count": len(found),
        "notes": list(found.notes),
        "solutions": [one.to_dict() for one in islice(found, _MOST_SOLUTIONS)],
    }


def pattern(question: Mapping[str, Any]) -> Answer:
    """Overlap, ripple, phases and ways out."""
    spec = ConvSpec.parse(layer_text(question), "layer")
    size = size_of(question, "size", spec.nd) or (_USUAL_SIZE,) * spec.nd
    weight = fitting(edited_of(question).kernel, prod(spec.kernel_size))
    return pattern_of(spec, size, weight)


def plan(question: Mapping[str, Any]) -> Answer:
    """What the engine would run."""
    return plan_of(ConvSpec.parse(layer_text(question), "layer"), question)


def raced(question: Mapping[str, Any]) -> Answer:
    """A race against torch."""
    return race(ConvSpec.parse(layer_text(question), "layer"), question)


def picture(question: Mapping[str, Any]) -> Answer:
    """A photograph through the layer."""
    from outstride.studio import developing

    return developing.picture(question)


def pixel(question: Mapping[str, Any]) -> Answer:
    """One pixel of it in numbers."""
    from outstride.studio import developing

    return developing.pixel(question)


ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "layer": layer, "solve": solutions, "pattern": pattern, "plan": plan, "race": raced,
    "picture": picture, "pixel": pixel,
}  # fmt: skip
"""The questions that a page may ask, by the last word of their address."""
