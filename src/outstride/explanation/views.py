"""The views of a layer by name, each made when it is asked for.

Each shows the same numbers. The last frame holds the layer's result, but for the ways back (``gradient``,
``unpool``) and for ``pair``, which shows two layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from outstride.explanation.channel_view import channels
from outstride.explanation.example import Channels, Example
from outstride.explanation.gradients import gradient, unpool
from outstride.explanation.matrix import MOST_ROWS, matrix
from outstride.explanation.phase_view import has_phases, in_phases
from outstride.explanation.scene import Scene
from outstride.explanation.short import has_short, short
from outstride.explanation.stamps import pair, stamps
from outstride.explanation.window import between_zeros, pooling_window, window


class Views(Mapping[str, Scene]):
    """Scenes by the name of their view: which there are is known at once, what they show when it is asked."""

    def __init__(self, example: Example, every: Channels | None, notes: Sequence[str]) -> None:
        self._makers = dict(_makers(example, every))
        self._notes, self._made = tuple(notes), dict[str, Scene]()

    def __getitem__(self, name: str) -> Scene:
        if name not in self._made:
            scene = self._makers[name]()
            notes = scene.notes if name == "channels" else (*scene.notes, *self._notes)
            self._made[name] = replace(scene, notes=notes)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _makers(example: Example, every: Channels | None) -> Iterator[tuple[str, Callable[[], Scene]]]:
    spec = example.spec
    if spec.is_pool:
        yield "window", lambda: pooling_window(example)
    elif example.transposed:
        yield "stamps", lambda: stamps(example)
        yield "zeros", lambda: between_zeros(example)
    else:
        yield "window", lambda: window(example)
    if max(example.x.size, prod(example.output)) <= MOST_ROWS:
        yield "matrix", lambda: matrix(example)
    if not spec.is_pool and has_short(example):
        yield "short", lambda: short(example)
    if example.transposed and has_phases(example):
        yield "phases", lambda: in_phases(example)
    if every is not None:
        yield "channels", lambda: channels(example, every)
    yield "gradient", lambda: gradient(example)
    if not spec.is_pool and spec.padding_mode == "zeros":
        yield "pair", lambda: pair(example)
    elif spec.kind == "max_pool":
        yield "unpool", lambda: unpool(example)
