"""Model number n of a seed, and the one line of JSON from which it can be played again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from outstride.engine import runtime
from tests.environments import Environment
from tests.fuzz.dice import Dice
from tests.fuzz.graphs import functions, layers
from tests.fuzz.graphs.builder import Builder
from tests.fuzz.graphs.program import Call, Program

Way = Literal["traced", "compiled", "dynamic"]
#: Most models are handed to the backend as ``torch.fx`` traces them, which takes a tenth of the time.
_COMPILED, _DYNAMIC = 0.02, 0.02
_DTYPES = (*["float32"] * 9, "float64", "float64", "bfloat16", "float16")
_LAYOUTS = ("contiguous", "contiguous", "contiguous", "channels_last", "channels_last", "sliced", "turned")
_SIZES = {
    1: ((1, 7, 16, 33, 64, 100),),
    2: ((3, 7, 8, 12), (4, 9, 16, 17)),
    3: ((2, 3, 6), (3, 4, 6), (4, 8, 9)),
}
_DRAWS: tuple[tuple[int, Callable[[Builder], Call | None]], ...] = (
    (8, layers.contraction), (3, layers.norm), (5, layers.activation), (2, layers.pool), (2, layers.resize),
    (1, layers.repeat), (1, layers.linear), (6, functions.of_two), (2, functions.with_number),
    (2, functions.with_parameter), (3, functions.alone), (4, functions.join), (3, functions.cut),
    (3, functions.view),
)  # fmt: skip
_MOST_DRAWS = 9


@dataclass(frozen=True)
class Graph:
    """A model and how it is played; `skipped` calls hand on what they are given, `results` are its values.

    Where it is `guarded` all memory ends at pages that no one may touch, and values in an arena share none.
    """

    seed: int
    number: int
    instruction_set: str
    threads: int
    way: Way = "traced"
    guarded: bool = False
    skipped: tuple[int, ...] = ()
    results: tuple[int, ...] | None = None

    @property
    def environment(self) -> Environment:
        """Under whose plans it runs, on how many threads."""
        return Environment(self.instruction_set, self.threads)

    def line(self) -> str:
        """The graph as one line of JSON, without what is as usual."""
        usual = {f.name: f.default for f in fields(Graph)}
        return json.dumps({k: v for k, v in asdict(self).items() if usual[k] != v}, separators=(",", ":"))


@dataclass
class Played:
    """A model that was built, and what makes its inputs."""

    model: Program
    is_trained: bool
    autocast: bool
    shapes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    layouts: tuple[str, ...]
    special: bool
    seed: tuple[int, int]

    def inputs(self, time: int, more: int = 0) -> list[Tensor]:
        """Other numbers each time; their last axis so much longer."""
        rng = np.random.default_rng([*self.seed, 1000 + time])
        found = []
        for shape, layout in zip(self.shapes, self.layouts, strict=True):
            values = torch.from_numpy(rng.standard_normal((*shape[:-1], shape[-1] + more))).to(self.dtype)
            if self.special and time % 2 and values.numel():
                places = torch.from_numpy(rng.integers(values.numel(), size=2))
                values.view(-1)[places] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
            found.append(_laid_out(values, layout))
        return found


def parse(line: str) -> Graph:
    """The graph that `Graph.line` wrote."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(line).items()}
    return Graph(**given)


def draw(seed: int, number: int, instruction_sets: Sequence[str] = (), ways: Sequence[Way] = ()) -> Graph:
    """The graph of a number; `instruction_sets` are those whose plans it may run under."""
    dice = Dice(np.random.default_rng([seed, number, 1]))
    chance = float(dice.rng.random())
    way: Way = "compiled" if chance < _COMPILED else "dynamic" if chance < _COMPILED + _DYNAMIC else "traced"
    sets = tuple(instruction_sets or runtime.available())
    own_set, threads, way = dice.one(sets), dice.one((1, 1, 2, 3)), dice.one(ways) if ways else way
    return Graph(seed, number, own_set, threads, way, dice.chance(0.3))


def build(graph: Graph) -> Played:
    """The model of a graph, the same each time."""
    dice = Dice(np.random.default_rng([graph.seed, graph.number]))
    torch.manual_seed(graph.number)
    nd = dice.one((1, 1, 2, 2, 2, 3))
    dtype: torch.dtype = getattr(torch, dice.one(_DTYPES))
    is_trained = dice.chance(0.2)
    shapes = _shapes(dice, nd)
    # Of a single image torch differentiates a norm wrongly where gradients are channels_last.
    usual = dice.chance(0.6) or is_trained
    layouts = tuple("contiguous" if usual else dice.one(_LAYOUTS) for _ in shapes)
    played = Played(
        Program(), is_trained, not is_trained and dtype == torch.float32 and dice.chance(0.05), shapes, dtype,
        layouts, dice.chance(0.15), (graph.seed, graph.number),
    )  # fmt: skip
    builder = Builder(dice, played.inputs(0), is_trained=is_trained)
    draws = [drawn for weight, drawn in _DRAWS for _ in range(weight)]
    for _ in range(dice.upto(1, _MOST_DRAWS)):
        _block(builder, dice.one(draws))
    played.model = model = builder.model
    count = len(builder.values)
    used = {n for call in model.calls for n in call.operands}
    results = [n for n in range(2, count) if n not in used or dice.chance(0.08)] or [count - 1]
    if dice.chance(0.04):
        results.append(dice.upto(0, count - 1))
    model.results, model.form = tuple(results), dice.one(("tuple", "tuple", "dict"))
    model.calls = [replace(call, is_skipped=place in graph.skipped) for place, call in enumerate(model.calls)]
    if graph.results is not None:
        model.results = graph.results
    model.train(is_trained)
    return played


def _block(builder: Builder, drawn: Callable[[Builder], Call | None]) -> None:
    """Add a call; behind a layer often a norm, an activation, a sum."""
    dice = builder.dice
    behind = [drawn]
    if drawn is layers.contraction:
        usual = (
            (layers.norm, 0.4),
            (layers.activation, 0.5),
            (functions.of_two, 0.3),
            (layers.activation, 0.3),
        )
        behind += [each for each, share in usual if dice.chance(share)]
    for each in behind:
        call = each(builder)
        builder.goes_on = call is not None and builder.add(call)
    builder.goes_on = False


def _shapes(dice: Dice, nd: int) -> tuple[tuple[int, ...], ...]:
    """Two inputs, often of one size."""
    batch, channels = dice.one((1, 1, 1, 2, 3)), dice.one((1, 2, 3, 4, 4, 6, 8, 8, 12, 16, 17))
    if dice.chance(0.01):
        batch = 0
    size = tuple(dice.one(sizes) for sizes in _SIZES[nd])
    first = (batch, channels, *size)
    kind = dice.one(("same", "same", "channels", "whole", "other"))
    others: dict[str, tuple[int, ...]] = {
        "same": first, "channels": (batch, dice.one((1, 3, 8)), *size), "whole": (batch, channels, *[1] * nd),
        "other": (1, channels, *size[:-1], 5),
    }  # fmt: skip
    return first, others[kind]


def _laid_out(values: Tensor, layout: str) -> Tensor:
    if layout == "channels_last" and values.dim() in (4, 5):
        return values.contiguous(
            memory_format=torch.channels_last if values.dim() == 4 else torch.channels_last_3d
        )
    if layout == "channels_last":
        return values.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "turned":
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced" and values.numel():
        return torch.cat([values, values], 1)[:, : values.shape[1]]
    return values.contiguous()
