"""Chunks of a size that comes again: every bit, nothing found out twice, and little held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from outstride import tiling
from outstride.engine.launch.steps.check import declined
from outstride.engine.planner.steps import Step
from outstride.errors import ArgumentError
from outstride.tiling.streams import lengths, preparing, streaming
from tests.environments import threads
from tests.tiling.models_to_tile import Function, Residual, image, seeded, whole_of
from tests.tiling.streams.test_streaming import lines, runs
from tests.tolerance import assert_same_bits

F, chain = nn.functional, nn.Sequential


class Causal(nn.Module):
    """A layer that looks back alone; what is missing of its last step is reflected, as EnCodec's do."""

    def __init__(
        self, channels: int, outputs: int, kernel: int, stride: int = 1, mode: str = "reflect"
    ) -> None:
        super().__init__()
        self.layer, self.mode = nn.Conv1d(channels, outputs, kernel, stride), mode
        self.before = kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(F.pad(x, (self.before, -x.shape[-1] % self.layer.stride[0]), self.mode))
        return made


def spread(channels: int, outputs: int, stride: int) -> nn.Module:
    return chain(
        nn.ConvTranspose1d(channels, outputs, 2 * stride, stride), Function(lambda x: x[..., :-stride])
    )


class Gated(nn.Module):
    """WaveNet's layers."""

    def __init__(self, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilations = dilations
        self.first, self.last = nn.Conv1d(2, 8, 1), nn.Conv1d(8, 2, 1)
        self.gates = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=d) for d in dilations)
        self.mixing = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), torch.zeros(1)
        for dilation, gate, mix in zip(self.dilations, self.gates, self.mixing, strict=True):
            a, b = gate(F.pad(x, (dilation, 0))).chunk(2, 1)
            made = mix(a.tanh() * b.sigmoid())
            x, total = x + made, total + made
        last: Tensor = self.last(total.relu())
        return last


class Vocoder(nn.Module):
    """HiFi-GAN's, narrow: branches of other reach side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Conv1d(2, 16, 7, padding=3), nn.ConvTranspose1d(16, 8, 8, 4, 2)
        self.branches = nn.ModuleList(
            chain(*(Residual(*self._pair(kernel, dilation)) for dilation in (1, 3))) for kernel in (3, 7)
        )
        self.last = nn.Conv1d(8, 1, 7, padding=3)

    @staticmethod
    def _pair(kernel: int, dilation: int) -> list[nn.Module]:
        reach = (kernel - 1) // 2
        return [
            nn.LeakyReLU(0.1), nn.Conv1d(8, 8, kernel, padding=reach * dilation, dilation=dilation),
            nn.LeakyReLU(0.1), nn.Conv1d(8, 8, kernel, padding=reach),
        ]  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(self.first(x), 0.1))
        first, second = self.branches
        x = (first(x) + second(x)) / 2
        made: Tensor = torch.tanh(self.last(F.leaky_relu(x)))
        return made


class Steps(nn.Module):
    """A recurrent layer between convolutions."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.first, self.last, self.layer = Causal(2, 8, 3), Causal(8, 2, 3), kind(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.last(self.layer(self.first(x).transpose(1, 2))[0].transpose(1, 2))
        return made


class Mixed(nn.Module):
    """A linear layer of the channels, with a norm, as ConvNeXt has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 8, 1)
        self.deep, self.norm = nn.Conv1d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        made: Tensor = self.narrow(F.gelu(self.wide(self.norm(self.deep(x).transpose(1, 2)))))
        return x + made.transpose(1, 2)


def encoder(mode: str = "reflect") -> nn.Module:
    return chain(
        Causal(2, 8, 7, mode=mode), Residual(nn.ELU(), Causal(8, 8, 3, mode=mode)), nn.ELU(),
        Causal(8, 16, 4, 2, mode), nn.ELU(), Causal(16, 8, 10, 5, mode),
    )  # fmt: skip


def decoder() -> nn.Module:
    return chain(Causal(8, 16, 7), nn.ELU(), spread(16, 8, 5), nn.ELU(), spread(8, 8, 2), Causal(8, 2, 7))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "vocoder": Vocoder,
    "encoder": encoder,
    "encoder without reflections": lambda: encoder("constant"),
    "decoder": lambda: chain(nn.Conv1d(2, 8, 1), decoder()),
    "codec": lambda: chain(encoder(), decoder()),
    "gated": lambda: Gated((1, 2, 4, 8)),
    "LSTM": lambda: Steps(nn.LSTM),
    "GRU": lambda: Steps(nn.GRU),
    "short cells": lambda: chain(
        nn.Conv1d(2, 64, 1), nn.Conv1d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv1d(64, 2, 5)
    ),
    "short cells, dilated": lambda: chain(
        nn.Conv1d(2, 128, 1), nn.Conv1d(128, 128, 3, padding=3, dilation=3), nn.Conv1d(128, 2, 1)
    ),
    "two routines": lambda: chain(
        nn.Conv1d(2, 3, 3, padding=1), nn.GELU(), nn.Conv1d(3, 3, 1), nn.SiLU(), nn.Conv1d(3, 2, 1)
    ),
    "exponentials": lambda: chain(
        nn.CELU(0.7), nn.Conv1d(2, 5, 3, padding=1), nn.SELU(), nn.Sigmoid(), nn.Conv1d(5, 2, 2), nn.ELU(0.3)
    ),
    "groups": lambda: chain(
        nn.Conv1d(2, 8, 3, groups=2), nn.Conv1d(8, 8, 5, padding=2, groups=8), nn.PReLU(8)
    ),
    "norm and pool": lambda: chain(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.MaxPool1d(3, 2), nn.AvgPool1d(2)
    ),
    "up and down": lambda: chain(nn.Upsample(scale_factor=4), nn.Conv1d(2, 2, 5), nn.AvgPool1d(2, 2)),
    "linear layers": Mixed,
}  # fmt: skip


def pushed(live: Any, x: Tensor, sizes: Sequence[int]) -> Tensor:
    parts, pattern = [], cycle(sizes)
    while x.shape[-1]:
        size = next(pattern)
        parts.append(live.push(x[..., :size]))
        x = x[..., size:]
    return torch.cat([*parts, live.close()], -1)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("sizes", [(7, 33), *(pytest.param(s, marks=SLOW) for s in ((40,), (1, 0, 20)))])
@pytest.mark.parametrize("name", MODELS)
def test_sizes_that_come_again_make_the_whole(name: str, sizes: tuple[int, ...]) -> None:
    model, x = seeded(MODELS[name]), image(1, 2, 640)
    live = tiling.stream(model, (1, 2, 0))
    assert_same_bits(pushed(live, x, sizes), whole_of(model, x))


@pytest.mark.parametrize("name", ["codec", "vocoder"])
def test_sizes_that_never_come_again_make_the_whole(name: str) -> None:
    model, x, drawn = seeded(MODELS[name]), image(1, 2, 1280), Random(name)
    live = tiling.stream(model, (1, 2, 0))
    assert_same_bits(pushed(live, x, [drawn.randint(0, 60) for _ in range(60)]), whole_of(model, x))


@pytest.mark.parametrize(
    ("batch", "count"), [(1, 1), (3, 2), *(pytest.param(1, n, marks=SLOW) for n in (2, 3))]
)
def test_threads_and_batches_make_the_whole(batch: int, count: int) -> None:
    model, x = seeded(Vocoder), image(batch, 2, 300)
    with threads(count):
        live = tiling.stream(model, (batch, 2, 0))
        assert_same_bits(pushed(live, x, (20,)), whole_of(model, x))


def test_threads_may_change_between_chunks() -> None:
    model, x = seeded(Vocoder), image(1, 2, 600)
    live = tiling.stream(model, (1, 2, 0))
    parts = []
    for number, chunk in enumerate(x.split(20, -1)):
        with threads(1 + number // 10 % 2):
            parts.append(live.push(chunk))
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_make_the_whole(dtype: torch.dtype) -> None:
    model, x = seeded(Vocoder).to(dtype), image(1, 2, 400).to(dtype)
    live = tiling.stream(model, (1, 2, 0))
    assert_same_bits(pushed(live, x, (25,)), whole_of(model, x))


def test_numbers_that_are_not_finite_stay_where_they_are_seen() -> None:
    model, x = seeded(Vocoder), image(1, 2, 600)
    x[..., 300], x[..., 401] = float("nan"), float("inf")
    live = tiling.stream(model, (1, 2, 0))
    assert_same_bits(pushed(live, x, (20,)), whole_of(model, x))


def test_two_streams_of_a_model_do_not_meet() -> None:
    model, x, y = seeded(Vocoder), image(1, 2, 400), image(1, 2, 400).flip(-1)
    first, second = tiling.stream(model, (1, 2, 0)), tiling.stream(model, (1, 2, 0))
    parts = [(first.push(a), second.push(b)) for a, b in zip(x.split(20, -1), y.split(20, -1), strict=True)]
    ends = (first.close(), second.close())
    for source, made, end in zip((x, y), zip(*parts, strict=True), ends, strict=True):
        assert_same_bits(torch.cat([*made, end], -1), whole_of(model, source))


class Watching(TorchDispatchMode):
    """Notes what torch is asked for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.seen = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_chunk_is_its_owners_and_so_are_modes() -> None:
    model, x = (
        seeded(lambda: chain(nn.Conv1d(2, 4, 5, padding=2), nn.Tanh(), nn.Conv1d(4, 2, 3))),
        image(1, 2, 160),
    )
    live, watching, parts = tiling.stream(model, (1, 2, 0)), Watching(), list[Tensor]()
    for number, part in enumerate(x.split(8, -1)):
        chunk = part.to(torch.float64 if number % 3 == 2 else torch.float32, copy=True)
        chunk.requires_grad_(number % 2 == 0)
        with torch.enable_grad(), torch.device("meta"), watching:
            parts.append(live.push(chunk))
        chunk.detach().fill_(float("nan"))  # who pushed it fills it anew
        assert not parts[-1].requires_grad
    assert not watching.seen
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_results_stay_as_they_were() -> None:
    model, x = seeded(Vocoder), image(1, 2, 400)
    live = tiling.stream(model, (1, 2, 0))
    parts, copies = [], []
    for chunk in x.split(20, -1):
        parts.append(live.push(chunk))
        copies.append(parts[-1].clone())
    for part, copy in zip(parts, copies, strict=True):
        assert_same_bits(part, copy)


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was to be known by now")


@pytest.mark.parametrize("sizes", [(7, 33), *(pytest.param(s, marks=SLOW) for s in ((40,), (24, 24, 25)))])
@pytest.mark.parametrize("name", ["vocoder", "encoder", "codec", pytest.param("gated", marks=SLOW), "LSTM"])
def test_after_some_chunks_nothing_is_found_out(
    name: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = seeded(MODELS[name]), image(1, 2, 12000)
    live = tiling.stream(model, (1, 2, 0))
    live.latency  # noqa: B018
    chunks = iter(islice(cycle(sizes), 200))
    for size in islice(chunks, 120):
        live.push(x[..., :size])
        x = x[..., size:]
    monkeypatch.setattr(streaming, "played", nothing)
    monkeypatch.setattr(preparing, "Writing", nothing)
    monkeypatch.setattr(lengths, "served_graph", nothing)
    for size in chunks:
        live.push(x[..., :size])
        x = x[..., size:]


@pytest.mark.parametrize("size", [30, 33, 80])
def test_a_prepared_codec_calls_no_function_of_torchs(size: int) -> None:
    """Its elus run in launches, however many elements they have."""
    if declined((Step("elu", (1.0, 1.0, 1.0), filled=True),), torch.float32) is not None:
        pytest.skip("this build of torch computes them in another way")
    live, x = tiling.stream(seeded(MODELS["codec"]), (1, 2, 0)), image(1, 2, size)
    live.prepare(size)
    for _ in range(20):
        live.push(x)
    with torch.profiler.profile() as profile:
        live.push(x)
    names = [event.key for event in profile.key_averages()]
    assert "aten::copy_" in names, "what comes is noted"
    assert "aten::elu" not in names


def test_what_is_prepared_ahead_makes_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = seeded(MODELS["codec"]), image(1, 2, 1280)
    live = tiling.stream(model, (1, 2, 0))
    live.prepare(30)
    monkeypatch.setattr(preparing, "Writing", nothing)
    assert_same_bits(pushed(live, x, (30,)), whole_of(model, x))


def test_preparing_amid_a_stream_changes_nothing() -> None:
    model, x = seeded(MODELS["LSTM"]), image(1, 2, 600)
    live = tiling.stream(model, (1, 2, 0))
    parts = []
    for number, chunk in enumerate(x.split(20, -1)):
        if number in (3, 12):
            live.prepare(10 + number)
        parts.append(live.push(chunk))
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_of_many_sizes_few_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MOST_PREPARED", 3)
    model, x = seeded(MODELS["gated"]), image(1, 2, 1400)
    live = tiling.stream(model, (1, 2, 0))
    parts = [live.push(chunk) for chunk in x.split([10, 20, 30, 40, 50, 60, 70] * 5, -1)]
    ways = [way for state in live._stretches._states.values() for way in state.onward.values()]
    assert sum(way.prepared is not None for way in ways) == 3
    assert len(live._memory._places) <= 6
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_a_model_that_depends_on_places_is_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "Prepared", nothing)
    model, x = seeded(lambda: chain(nn.Upsample(scale_factor=3), nn.Conv1d(2, 2, 5))), image(1, 2, 600)
    live = tiling.stream(model, (1, 2, 0))
    live.prepare(20)
    assert_same_bits(pushed(live, x, (20,)), whole_of(model, x))


def test_a_size_to_prepare_for_is_positive() -> None:
    with pytest.raises(ArgumentError, match="'length' must be at least 1: got 0; legal: "):
        tiling.stream(seeded(Vocoder), (1, 2, 0)).prepare(0)


def test_weights_of_the_model_may_be_written_to_afterwards() -> None:
    """What the stream promises of its weights, it promises of copies."""
    model, x = seeded(Vocoder), image(1, 2, 400)
    live = tiling.stream(model, (1, 2, 0))
    for chunk in x.split(20, -1):
        live.push(chunk)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    fresh = tiling.stream(model, (1, 2, 0))
    assert_same_bits(pushed(fresh, x, (20,)), whole_of(model, x))


@SLOW
@settings(max_examples=150, deadline=None)
@given(lines(), st.integers(1, 40), st.integers(1, 40))
def test_any_chain_in_sizes_that_come_again(model: nn.Module, first: int, second: int) -> None:
    model = seeded(lambda: model)
    x = next((x for n in range(799, 820) if runs(model, x := image(1, 2, n))), None)
    if x is not None:
        assert_same_bits(pushed(tiling.stream(model, (1, 2, 0)), x, (first, second)), whole_of(model, x))
