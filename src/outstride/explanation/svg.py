"""Scenes as SVG that moves by itself, wherever it is shown; without animation the last frame stands."""

from __future__ import annotations

from html import escape

from outstride.explanation.drawing import CELL, INK, PAPER, Cell, Layout, Words
from outstride.explanation.scene import Scene

_FONT = "font-family='DejaVu Sans, Verdana, sans-serif' font-size='13'"


def svg(scene: Scene, seconds: float = 1.0, moving: bool = True) -> str:
    """A scene as one SVG element; ``seconds`` for each frame."""
    layout = Layout(scene)
    width, height = layout.width, layout.height
    count = len(scene.frames)
    groups = []
    for place, frame in enumerate(scene.frames):
        drawn = "".join(map(_element, layout.parts(frame)))
        shown = "visible" if place == count - 1 else "hidden"
        motion = _motion(place, count, seconds) if moving and count > 1 else ""
        groups.append(f"<g class='frame' visibility='{shown}'>{motion}{drawn}</g>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' "
        f"height='{height}' role='img' {_FONT} fill='{INK}'><title>{escape(scene.title)}</title>"
        f"<rect width='{width}' height='{height}' fill='{PAPER}'/>{''.join(groups)}</svg>"
    )


def _element(part: Cell | Words) -> str:
    if isinstance(part, Cell):
        middle, line = part.x + part.width // 2, part.y + CELL // 2 + 5
        box = f"x='{part.x}' y='{part.y}' width='{part.width - 2}' height='{CELL - 2}'"
        return (
            f"<rect {box} fill='{part.colour}'/>"
            f"<text x='{middle}' y='{line}' text-anchor='middle' fill='{part.ink}'>{part.text}</text>"
        )
    return f"<text x='{part.x}' y='{part.y}'>{escape(part.text)}</text>"


def _motion(place: int, count: int, seconds: float) -> str:
    """A frame is seen in its turn and hidden in all others; the last stands twice as long."""
    turns = count + 1
    start, stop = place / turns, (turns if place == count - 1 else place + 1) / turns
    values, times = ["hidden", "visible", "hidden"], [0.0, start, stop]
    if place == 0:
        values, times = values[1:], [0.0, stop]
    if place == count - 1:
        values, times = values[:-1], times[:-1]
    marks = ";".join(f"{time:.5f}" for time in times)
    return (
        f"<animate attributeName='visibility' values='{';'.join(values)}' keyTimes='{marks}' "
        f"dur='{turns * seconds:g}s' calcMode='discrete' repeatCount='indefinite'/>"
    )
