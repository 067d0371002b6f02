"""A view as a file: moving SVG or GIF, a picture of its last step, a page that works by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outstride.explanation import page, raster, svg
from outstride.explanation.scene import Scene
from outstride.layer.arguments import choice
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import edited_of, layer_text, size_of, text_of
from outstride.studio.views import shown

_SECONDS = 1.0


@dataclass(frozen=True)
class Picture:
    """The bytes of a file and what they are."""

    content: bytes
    media_type: str


_FORMATS: Mapping[str, tuple[str, Callable[[Scene, str], bytes]]] = {
    "svg": ("image/svg+xml", lambda scene, _: svg.svg(scene, _SECONDS).encode()),
    "gif": ("image/gif", lambda scene, _: raster.gif(scene, _SECONDS)),
    "png": ("image/png", lambda scene, _: raster.png([scene])),
    "html": ("text/html", lambda scene, layer: page.page(layer, [scene], _SECONDS).encode()),
}


def picture(question: Mapping[str, Any]) -> Picture:
    """The view that a question names, in the format that it names.

    Raises:
        ArgumentError: no such format, or no layer.
        ShapeError: it is too large to be followed.
    """
    spec = ConvSpec.parse(layer_text(question), "layer")
    wanted = text_of(question, "format")
    choice("format", wanted, tuple(_FORMATS))
    found = shown(spec, size_of(question, "size", spec.nd), edited_of(question))
    media_type, make = _FORMATS[wanted]
    return Picture(make(found.scene(text_of(question, "view")), repr(spec)), media_type)
