"""Scenes as SVG: one file that moves by itself, or stands still for a page that moves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from outstride.explanation.drawing import CELL, COLOURS, FAINT, INK, PAPER, Cell, Layout, Words
from outstride.explanation.scene import PHASES, Role, Scene

_FONT = "font-family='system-ui, sans-serif' font-size='14'"

#: On dark paper the same hues, so that light numbers can be read on them.
_DARK: dict[str, str] = {
    "paper": "#17191d", "ink": "#e9eaec", "faint": "#9aa0a8", "border": "#2b2e34",
    "input": "#22486b", "kernel": "#6a4717", "output": "#24562f",
}  # fmt: skip
#: These stay as they are on dark paper, and their numbers dark.
_BRIGHT: tuple[Role, ...] = ("active", "result", *PHASES)

Part = Cell | Words


def svg(scene: Scene, seconds: float = 1.0, moving: bool = True, styled: bool = True) -> str:
    """One frame after the other, again and again; what does not move shows the last frame.

    What all frames share is drawn once. Each frame is a group of the class ``frame``. Who wants less motion
    sees the last frame. Without a style of its own it takes that of the page around it.
    """
    layout = Layout(scene)
    width, height = layout.width, layout.height
    shared, differing = split([list(layout.parts(frame)) for frame in scene.frames])
    count, groups = len(scene.frames), []
    moving = moving and count > 1
    for place, parts in enumerate(differing):
        shown = "visible" if place == count - 1 else "hidden"
        begins = f" style='animation-delay:{(place - count - 1) * seconds:g}s'" if moving else ""
        groups.append(f"<g class='frame' visibility='{shown}'{begins}>{_drawn(parts)}</g>")
    size = f"width='{width}' height='{height}'"
    if not styled:  # a narrow page scrolls rather than make numbers that cannot be read
        size += f" style='min-width:{7 * width // 10}px'"
    rules = _dark_rules() + (motion_rules(count, seconds) if moving else "") if styled else ""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {size} "
        f"role='img' {_FONT} fill='{INK}'><title>{escape(scene.title)}</title>"
        f"{f'<style>{rules}</style>' if rules else ''}"
        f"<rect class='o-paper' width='{width}' height='{height}' fill='{PAPER}'/>"
        f"{_drawn(shared)}{''.join(groups)}</svg>"
    )


def _dark_rules() -> str:
    return f"@media(prefers-color-scheme:dark){{{dark()}}}"


def dark(where: str = "") -> str:
    """The rules of dark paper for what lies in that place of a page."""
    return "".join(f"{where}.o-{name}{{fill:{colour}}}" for name, colour in _DARK.items())


def motion_rules(count: int, seconds: float, where: str = "") -> str:
    """A frame is seen in its turn and hidden in all others; the last stands twice as long."""
    turns, name = count + 1, f"outstride-{count}"
    share = 100 / turns
    return (
        f"@keyframes {name}{{0%{{visibility:visible}}{share:.4g}%{{visibility:hidden}}}}"
        f"@keyframes {name}-last{{0%{{visibility:visible}}{2 * share:.4g}%{{visibility:hidden}}}}"
        f"@media(prefers-reduced-motion:no-preference){{"
        f"{where}.frame{{animation:{name} {turns * seconds:g}s step-end infinite}}"
        f"{where}.frame:last-child{{animation-name:{name}-last}}}}"
    )


def split(frames: list[list[Part]]) -> tuple[list[Part], list[list[Part]]]:
    """What every frame shows, or most do where cells of others lie above it; and what each has of its own."""
    seen: dict[tuple[int, int], Counter[Part]] = {}
    for part in (part for frame in frames for part in frame):
        seen.setdefault((part.x, part.y), Counter())[part] += 1
    shared = {}
    for place, counter in seen.items():
        part, times = counter.most_common(1)[0]
        covered = isinstance(part, Cell) and counter.total() == len(frames)
        if times == len(frames) or covered:
            shared[place] = part
    return list(shared.values()), [
        [part for part in frame if shared.get((part.x, part.y)) != part] for frame in frames
    ]


def _drawn(parts: Iterable[Part]) -> str:
    """Boxes, one path for all of a colour; then what is written."""
    boxes: dict[Role, list[str]] = {}
    numbers: dict[str, list[str]] = {}
    words = []
    for part in parts:
        if isinstance(part, Words):
            words.append(f"<text x='{part.x}' y='{part.y}'>{escape(part.text)}</text>")
            continue
        wide, high = part.width - 2, CELL - 2
        boxes.setdefault(part.role, []).append(f"M{part.x} {part.y}h{wide}v{high}h-{wide}z")
        if part.text:
            middle, line = part.x + part.width // 2 - 1, part.y + CELL // 2 + 4
            numbers.setdefault(_ink(part.role), []).append(
                f"<text x='{middle}' y='{line}'>{part.text}</text>"
            )
    drawn = [f"<path class='o-{role}' fill='{COLOURS[role]}' d='{''.join(d)}'/>" for role, d in boxes.items()]
    drawn += [
        f"<g class='o-{ink}' fill='{FAINT if ink == 'faint' else INK}' text-anchor='middle'>{''.join(t)}</g>"
        for ink, t in numbers.items()
    ]
    return "".join([*drawn, f"<g class='o-ink'>{''.join(words)}</g>" if words else ""])


def _ink(role: Role) -> str:
    """What a number is written in: some boxes stay bright on dark paper."""
    if role == "border":
        return "faint"
    return "dark" if role in _BRIGHT else "ink"
