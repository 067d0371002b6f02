"""Room is made where what comes next would not fit: free memory goes back, then packed weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from outstride.engine.launch.weights.packing import PACKED
from outstride.tiling import trimming
from outstride.tiling.costs.memory import Bytes


class Process:
    """A process that holds so much, some of it free and some of it in packed weights, and its room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
        self.used, self.free, self.packed, self.calls = 0, 0, 0, list[str]()
        self.steps: dict[int, Bytes] = {}
        monkeypatch.setattr(trimming.Room, "_resident", lambda _: self.used + self.free + self.packed)
        monkeypatch.setattr(trimming, "heap_trimmer", lambda: self.trim)
        monkeypatch.setattr(trimming, "steps_of", lambda *_: self.steps)
        monkeypatch.setattr(PACKED, "clear", self.clear)
        self.room = trimming.Room(budget)

    def trim(self, _: int) -> None:
        self.calls.append("trim")
        self.free = 0

    def clear(self) -> None:
        self.calls.append("clear")
        self.free, self.packed = self.free + self.packed, 0

    def make(self, tensors: int, kept: int, size: int) -> None:
        """A box of a size, of one tensor that takes so much."""
        self.steps = {1: Bytes(tensors, kept)}
        need: Any = SimpleNamespace(parts={1: []}, boxes={1: ((0, size),)})
        program: Any = None
        self.room.box(program, need)(1)
        self.packed += kept if not self.packed else 0


def test_nothing_is_given_back_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, 100)
    with process.room:
        process.make(60, 40, size=5)
        process.make(60, 40, size=5)
    assert process.calls == []


def test_free_memory_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, 100)
    with process.room:
        process.make(60, 30, size=5)
        process.free = 50
        process.make(60, 30, size=5)
    assert (process.calls, process.packed) == (["trim"], 30)


def test_packed_weights_go_where_boxes_of_other_sizes_need_others(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, 100)
    with process.room:
        process.make(60, 40, size=5)
        process.make(50, 35, size=3)
        assert (process.calls, process.packed) == (["trim", "clear", "trim"], 35)
        process.make(60, 40, size=5)
    assert process.packed == 40, "those of before had been let go, too"


def test_what_others_hold_is_not_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch, 100)
    with process.room:
        process.used = 90
        process.make(60, 0, size=5)
        process.make(60, 0, size=5)
    assert process.calls == ["trim"]
