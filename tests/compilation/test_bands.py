"""Layers that make bands of rows in turn have the bits of layers that make all of them, on every thread."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import outstride
from outstride.compilation import bands, running
from outstride.compilation.segments import Seen, Segment
from outstride.engine import runtime
from outstride.engine.launch.launches import Launch
from outstride.models.operators.reach import Window
from tests.environments import Environment
from tests.fuzz.graphs.tracing import traced
from tests.guard import GuardedPages
from tests.tolerance import assert_same_bits

_ENVIRONMENTS = [
    Environment("avx512", 1), Environment("avx512", 2), Environment("avx2", 3), Environment("generic", 2),
]  # fmt: skip


class Stack(nn.Module):
    """Layers of one tap, layers of single channels and others with strides, with steps, sums and results."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.layers, self.sums, self.results = nn.ModuleList(), dict[int, int](), set[int]()
        channels = draw.choice((3, 8, 16, 20))
        self.size = (channels, draw.randint(24, 60), draw.randint(5, 20))
        alike, shrunk = {0: (channels, 0)}, 1  # the channels of a value, and which one has its size, too
        for number in range(1, draw.randint(3, 8)):
            kind = draw.choice(("one", "one", "single", "single", "dense"))
            outputs = draw.choice((8, 16, 24, 33, 48)) if kind != "single" else channels
            kernel = 1 if kind == "one" else draw.choice((2, 3, 5))
            stride = 2 if kind == "dense" else draw.choice((1, 1, 1, 2))
            dilation = draw.choice((1, 1, 2)) if kind == "single" and kernel == 3 else 1
            same = stride == 1 and kernel % 2 == 1
            padding = dilation * (kernel // 2) + (0 if same else draw.randint(0, 1))
            shrunk *= stride
            if shrunk > 4:
                break
            groups = channels if kind == "single" else 1
            layer: nn.Module = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups)
            norm = [nn.BatchNorm2d(outputs)] if draw.random() < 0.6 else []
            steps = draw.choice(([], [nn.ReLU()], [nn.ReLU6()], [nn.SiLU()]))
            self.layers.append(nn.Sequential(layer, *norm, *steps))
            alike[number] = (outputs, alike[number - 1][1] if same else number)
            earlier = [k for k in range(number) if alike[k] == alike[number]]
            if earlier and draw.random() < 0.5:
                self.sums[number] = draw.choice(earlier)
            if draw.random() < 0.2:
                self.results.add(number)
            channels = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        made, found = [x], []
        for number, layer in enumerate(self.layers, 1):
            x = layer(x)
            if number in self.sums:
                x = x + made[self.sums[number]]
            made.append(x)
            if number in self.results:
                found.append(x)
        return [*found, x]

    def inputs(self, time: int) -> Tensor:
        x = torch.randn(1, *self.size, generator=torch.Generator().manual_seed(time))
        return x.contiguous(memory_format=torch.channels_last)


@contextmanager
def level_of(size_bytes: int) -> Iterator[list[Launch]]:
    """A machine with a second level of so many bytes, and the launches of segments that were made for it."""
    made, banded = list[Launch](), bands._banded

    def noted(*given: object) -> Launch | None:
        launch = banded(*given)  # type: ignore[arg-type]  # as it is called
        made.extend([] if launch is None else [launch])
        return launch

    with (
        mock.patch.object(running, "machine", return_value=replace(runtime.machine(), l2_bytes=size_bytes)),
        mock.patch.object(bands, "_banded", noted),
        mock.patch.object(bands, "_WEIGHT_SHARE", math.inf),
    ):
        yield made


def assert_as_accelerated(seed: int, environment: Environment, guarded: bool = False) -> int:
    """Five calls, the last with weights written to; and how many segments there were."""
    level_bytes = 1 << random.Random(seed).randint(9, 15)
    with environment.entered(), level_of(level_bytes) as made, torch.no_grad(), ExitStack() as stack:
        pages = stack.enter_context(GuardedPages(64)) if guarded else None
        model = Stack(seed).eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)
        plain = copy.deepcopy(model)
        served, fast = outstride.accelerate(plain), traced(model, [model.inputs(0)])
        for time in range(5):
            if time == 4:
                for parameter in (*model.parameters(), *plain.parameters()):
                    parameter.mul_(0.5)
            given = model.inputs(time)
            found = fast(given if pages is None else pages.copy(given, "end"))
            for x, y in zip(found, served(given), strict=True):
                assert_same_bits(x, y, f"seed {seed}, call {time + 1}")
                assert x.stride() == y.stride()
        return len(made)


@pytest.mark.parametrize("environment", _ENVIRONMENTS, ids=str)
def test_drawn_layers_have_the_bits_of_the_accelerated_ones(environment: Environment) -> None:
    assert sum(assert_as_accelerated(seed, environment) for seed in range(10)) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("environment", _ENVIRONMENTS, ids=str)
def test_many_drawn_layers(environment: Environment) -> None:
    first = random.randrange(1 << 30)
    assert sum(assert_as_accelerated(first + seed, environment) for seed in range(200)) >= 60


@pytest.mark.parametrize("environment", _ENVIRONMENTS[:2], ids=str)
def test_nothing_beside_the_tensors_is_touched(environment: Environment) -> None:
    assert sum(assert_as_accelerated(seed, environment, guarded=True) for seed in range(4)) >= 1


class Expanded(nn.Module):
    """A layer of one tap, one of single channels and another of one tap, as in mobile networks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(8, 48, 1), nn.ReLU6(), nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.ReLU6(),
            nn.Conv2d(48, 8, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]  # torch says no more


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_not_finite(threads: int) -> None:
    """A weight that is not is for torch's order of sums, an input for nobody; both may come and go."""
    model = Expanded().eval().requires_grad_(False)
    plain = copy.deepcopy(model)
    served = outstride.accelerate(plain)
    x = torch.randn(1, 8, 40, 20).contiguous(memory_format=torch.channels_last)
    with Environment("avx512", threads).entered(), level_of(1 << 14) as made, torch.no_grad():
        fast = traced(model, [x])
        for weight, number in (
            (1.0, 1.0),
            (1.0, 1.0),
            (1.0, 1.0),
            (torch.inf, 1.0),
            (1.0, torch.nan),
            (2.0, 0.0),
        ):
            for layers in (model.layers, plain.layers):
                layer = layers[2]
                assert isinstance(layer, nn.Conv2d)
                layer.weight[7, 0, 1, 1] = weight
            x[0, 3, 17, 11] = number
            assert_same_bits(fast(x), served(x), f"weight {weight}, input {number}")
    assert len(made) == 1
    (launch,) = made
    assert len(launch.strands) == launch.workers == threads


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_rows_are_there_before_they_are_read(data: st.DataObject) -> None:
    """Each thread reads rows that it has made itself, and each row is made."""
    sizes = st.integers(1, 5)
    rows, lines = data.draw(st.integers(30, 90)), list[Seen]()
    for number in range(data.draw(st.integers(2, 6))):
        step, extent = data.draw(sizes.filter(lambda n: n < 4)), data.draw(sizes)
        reach = Window(extent, step, data.draw(st.integers(0, extent)), 1)
        made = reach.outputs(rows)
        if made < 2:
            break
        alike = (number - 2,) if number > 1 and lines[number - 2].rows == made else ()
        lines.append(Seen(number, made, rows, reach, alike, number, 1, 1, 1))
        rows = made
    segment = Segment(tuple(lines), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9)))
    everywhere = [set[int]() for _ in lines]
    for strand in segment.strands():
        own = [set[int]() for _ in lines]
        for number, first, end in strand:
            assert first < end <= lines[number].rows
            if number:
                assert own[number - 1].issuperset(range(*lines[number].needs(first, end)))
            for earlier in lines[number].alike:
                assert own[earlier].issuperset(range(first, end))
            own[number].update(range(first, end))
            everywhere[number].update(range(first, end))
    assert [len(found) for found in everywhere] == [line.rows for line in lines]
