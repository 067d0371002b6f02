"""Scenes as pixels: a GIF that moves, a PNG of the last frame."""

from __future__ import annotations

import io
from typing import Any

from outstride.errors import UnsupportedError
from outstride.explanation.drawing import CELL, INK, PAPER, Cell, Layout
from outstride.explanation.scene import Frame, Scene

_FONT_SIZE = 14


def gif(scene: Scene, seconds: float = 1.0) -> bytes:
    """A GIF that begins again at its end; the last frame stands twice as long."""
    layout = Layout(scene)
    drawn = [_frame(frame, layout) for frame in scene.frames]
    times = [int(1000 * seconds)] * (len(drawn) - 1) + [int(2000 * seconds)]
    buffer = io.BytesIO()
    drawn[0].save(
        buffer, format="GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=True
    )
    return buffer.getvalue()


def png(scenes: list[Scene]) -> bytes:
    """The last frame of each scene, one below the other."""
    drawn = [_frame(scene.frames[-1], Layout(scene)) for scene in scenes]
    image = _pillow().new("RGB", (max(d.width for d in drawn), sum(d.height for d in drawn)), PAPER)
    top = 0
    for part in drawn:
        image.paste(part, (0, top))
        top += part.height
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError(
            "GIF and PNG need Pillow, which is not installed; legal: pip install pillow, or .svg or .html"
        ) from None
    return Image


def _frame(frame: Frame, layout: Layout) -> Any:
    image = _pillow().new("RGB", (layout.width, layout.height), PAPER)
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=_FONT_SIZE)
    for part in layout.parts(frame):
        if isinstance(part, Cell):
            corner = (part.x, part.y, part.x + part.width - 3, part.y + CELL - 3)
            pen.rectangle(corner, fill=part.colour)
            middle = (part.x + part.width / 2 - 1, part.y + CELL / 2 - 1)
            pen.text(middle, part.text, fill=part.ink, font=font, anchor="mm")
        else:
            pen.text((part.x, part.y), part.text, fill=INK, font=font, anchor="ls")
    return image
