"""Running stages: values are kept in a list of places while somebody needs them, and no longer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from threading import Lock
from time import thread_time
from typing import Any

from torch import Tensor, get_num_threads
from torch.fx import Node

from outstride.compilation.arena import Arena, Lifetime, MemoryPlan, memory_plan
from outstride.compilation.bands import Banding, Writing, lasting
from outstride.compilation.formats import Formats
from outstride.compilation.fusing import Fusion
from outstride.compilation.scripts import Line, Made, Script
from outstride.compilation.stages import Bound
from outstride.compilation.values import is_number, is_of_a_model, is_sized
from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.runtime import chosen, heap_trimmer, machine

_SIZES = 8
"""Sizes of inputs whose memory plans are kept."""


class Program:
    """The stages of a graph, ready to run on lists of values, which it empties.

    The first call with inputs of a size notes what each line makes; then intermediate values have their
    places in an arena. Calls at the same time, from several threads, have one each.
    """

    def __init__(self, fusion: Fusion, frozen: bool = False) -> None:
        self._frozen = frozen
        places = {node: place for place, node in enumerate(fusion.inputs)}
        for stage in fusion.stages:
            places[stage.output] = len(places)
        self._count, self._size = len(fusion.inputs), len(places)
        #: Of each output its place, or what it always is.
        self._outputs = [
            (places[value], None) if isinstance(value, Node) else (None, value) for value in fusion.outputs
        ]
        self._kept = {places[node] for node in fusion.graph.graph.output_node().all_input_nodes}
        ends = dict[int, int]()
        for number, stage in enumerate(fusion.stages):
            ends[places[stage.output]] = number
            for node in stage.inputs:
                ends[places[node]] = number
        last = [list[int]() for _ in fusion.stages]
        for place, number in ends.items():
            if place not in self._kept:
                last[number].append(place)
        self._ends = ends
        unneeded = range(len(fusion.inputs))
        self._unused = tuple(place for place in unneeded if place not in ends and place not in self._kept)
        self._lines = tuple(
            Line(
                stage.run, tuple(places[node] for node in stage.inputs), places[stage.output],
                tuple(last[number]), stage.takes_out, stage.joins,
                None if stage.weight is None else places[stage.weight], stage.bind,
                stage.is_view, stage.output.op == "get_attr", places[stage.output] in self._kept,
                stage.formats, stage.rows,
            )
            for number, stage in enumerate(fusion.stages)
        )  # fmt: skip
        self._numbers = tuple(place for place, node in enumerate(fusion.inputs) if is_number(node))
        self._changing = tuple(place for place, node in enumerate(fusion.inputs) if _changes(node))
        self._blank = [None] * (self._size - self._count)
        self._memory = _Arenas()
        self._formats = Formats(self._lines, self._kept)

    @property
    def plans(self) -> tuple[MemoryPlan, ...]:
        """The memory plans that were made, one for each size of the inputs."""
        return self._memory.plans

    def __call__(self, values: list[Any]) -> list[Any]:
        """The values of the graph's outputs; `values` are those of its inputs, and are let go of."""
        key: tuple[Any, ...] = (
            get_num_threads(), chosen(), *(values[place] for place in self._numbers),
            *(values[place].stride() for place in self._changing),
        )  # fmt: skip
        arena = self._memory.take(key)
        script = None if arena is None else arena.script
        held: list[Any] = [*values, *(self._blank if arena is None else arena.made or self._blank)]
        values.clear()
        for place in self._unused:
            held[place] = None
        if arena is None:
            self._note(key, held)
        else:
            try:
                if script is None:
                    arena.script = self._write(held, arena)
                else:
                    script(held)
            finally:
                self._memory.give(key, arena)
        return [value if place is None else held[place] for place, value in self._outputs]

    def _write(self, held: list[Any], arena: Arena) -> Script:
        """Every line in its turn, into its place in the arena where it has one; and that as a script."""
        tensors = arena.tensors
        fixed = {self._lines[number].place: tensor for number, tensor in tensors.items()}
        own = {place for place in range(self._count) if self._frozen and is_of_a_model(held[place])}
        script = Script(fixed | {place: held[place] for place in self._numbers}, own)
        writing = Writing(script, arena.segments)
        for number, line in enumerate(self._lines):
            out = tensors.get(number)
            given = [held[place] for place in line.inputs]
            like = arena.likes.get(number) if out is None else out
            bound = Bound(line.run) if line.bind is None else line.bind(given, like)
            begin = thread_time()
            value = held[line.place] = bound.run(*given) if out is None else bound.run(*given, out=out)
            writing.add(number, Made(line, bound, given, value, thread_time() - begin))
            for place in line.last:
                held[place] = None
        script.finish()
        _give_back()  # what is kept of a script lies between values of the call that wrote it
        arena.made = [script.fixed.get(place) for place in range(self._count, self._size)]
        return script

    def _note(self, key: tuple[Any, ...], held: list[Any]) -> None:
        """Every line in its turn, each into memory of its own; then a plan is made of what was noted."""
        owners, made = dict[int, int](), dict[int, Lifetime]()
        packed = list[tuple[Line, list[tuple[int, str]]]]()
        banding = Banding(self._lines, get_num_threads(), machine().l2_bytes)
        for number, line in enumerate(self._lines):
            given = [held[place] for place in line.inputs]
            if self._frozen and line.weight is not None and line.weight < self._count:
                PACKED.freeze(held[line.weight])
            weight = None if line.weight is None else held[line.weight]
            before = [] if weight is None else PACKED.forms(weight)
            result = held[line.place] = line.run(*given)
            if weight is not None:
                packed.append((line, [form for form in PACKED.forms(weight) if form not in before]))
            self._formats.note(number, given, result)
            banding.note(number, given, result)
            memory = _memory_of(result)
            owner = next(
                (owners[p] for p in line.inputs if p in owners and _memory_of(held[p]) & memory), None
            )
            end = self._ends[line.place] if line.place not in self._kept else len(self._lines)
            if owner is not None:  # a view
                owners[line.place] = owner
                made[owner] = _until(made[owner], end)
            elif line.takes_out and isinstance(result, Tensor) and result.numel():
                shape, strides = tuple(result.shape), tuple(result.stride())
                owners[line.place] = number
                made[number] = Lifetime(number, end, shape, strides, result.dtype, _span(result))
                if line.joins and result.is_contiguous() and result.shape[0] == 1:
                    parts = [(owners.get(place), held[place]) for place in line.inputs]
                    made.update(_joined(number, parts, made))
            for place in line.last:
                held[place] = None
        made = self._formats.applied(made)
        segments = banding.segments(made)
        made = lasting(made, segments)
        inner = _inner(made, len(self._lines))
        results = (value for number, value in made.items() if number not in {v.line for v in inner})
        self._memory.add(key, replace(memory_plan(inner), results=tuple(results), segments=segments))
        # Kernels that read or write another format may read weights in another order, too.
        PACKED.drop(form for line, forms in packed if self._formats.changes(line) for form in forms)
        _give_back()  # each value had memory of its own, between what is kept


def _give_back() -> None:
    """Give memory that came free back to the system: further calls do not ask for it again."""
    trim = heap_trimmer()
    if trim is not None:
        trim(0)


class _Arenas:
    """The arenas that no call is using, by the sizes of inputs; of each a few."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._plans: OrderedDict[tuple[Any, ...], tuple[MemoryPlan, list[Arena]]] = OrderedDict()

    @property
    def plans(self) -> tuple[MemoryPlan, ...]:
        with self._lock:
            return tuple(plan for plan, _ in self._plans.values())

    def add(self, key: tuple[Any, ...], plan: MemoryPlan) -> None:
        with self._lock:
            self._plans[key] = (plan, [])
            while len(self._plans) > _SIZES:
                self._plans.popitem(last=False)

    def take(self, key: tuple[Any, ...]) -> Arena | None:
        """An arena for inputs of that size; None where none has been seen yet."""
        with self._lock:
            found = self._plans.get(key)
            if found is None:
                return None
            plan, free = found
            self._plans.move_to_end(key)
            if free:
                return free.pop()
            for other, (_, idle) in self._plans.items():
                if other != key:
                    idle.clear()  # one size at a time holds memory
        return Arena(plan)

    def give(self, key: tuple[Any, ...], arena: Arena) -> None:
        """Take an arena back."""
        with self._lock:
            found = self._plans.get(key)
            if found is not None:
                found[1].append(arena)


def _changes(node: Node) -> bool:
    """Whether a tensor may come in other sizes or strides."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not is_sized(value)


def _joined(
    line: int, parts: list[tuple[int | None, Tensor]], made: dict[int, Lifetime]
) -> dict[int, Lifetime]:
    """The parts of what a line joins that can be made in their places: whole values that lie in order."""
    found, before = dict[int, Lifetime](), 0
    for owner, part in parts:
        value = None if owner is None else made[owner]
        if (
            value is not None and value.inside is None and value.line not in found and part.is_contiguous()
            and value.size_bytes == part.numel() * part.element_size() and value.shape == tuple(part.shape)
        ):  # fmt: skip
            found[value.line] = replace(value, inside=(line, before))
        before += part.numel() * part.element_size()
    return found


def _inner(made: dict[int, Lifetime], end: int) -> list[Lifetime]:
    """The values that are not needed after the end, as results are. A part of a result has its own memory."""
    inner = {line: value for line, value in made.items() if value.last < end}
    return [
        replace(value, inside=None) if value.inside is not None and value.inside[0] not in inner else value
        for value in inner.values()
    ]


def _until(value: Lifetime, last: int) -> Lifetime:
    return value if last <= value.last else replace(value, last=last)


def _span(tensor: Tensor) -> int:
    """The bytes from a tensor's first element to its last."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.element_size()


def _memory_of(value: Any) -> set[int]:
    """The storages that a value lies in."""
    tensors = value if isinstance(value, (tuple, list)) else (value,)
    return {t.untyped_storage().data_ptr() for t in tensors if isinstance(t, Tensor) and t.numel()}
