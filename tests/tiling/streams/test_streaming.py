"""A stream returns what its latency promises, and refuses what would never return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outstride import tiling
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from tests.tiling.models_to_tile import Function, Residual, conv, image, seeded, whole_of
from tests.tiling.networks import ALL_KINDS, WHOLE_KINDS, accepts, networks
from tests.tolerance import assert_same_bits

F, chain = nn.functional, nn.Sequential


def padded(low: int, high: int, mode: str = "constant") -> nn.Module:
    return Function(lambda x: F.pad(x, (low, high), mode=mode))


def cropped(low: int, high: int) -> nn.Module:
    return Function(lambda x: x[..., low : x.shape[-1] - high])


def ended(made: Callable[[Tensor], Tensor]) -> nn.Module:
    """An input, and behind it the end of what is made of it, from behind."""
    return Function(lambda x: torch.cat([x, made(x)[..., -5:-1].flip(2)], 2))


class Skipped(nn.Module):
    """Down and up again, with what was before beside it, where the sizes fit."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(2, 2, 3, stride, padding=1), nn.Upsample(scale_factor=stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.up(self.down(x)), x], 1)


#: Model, and the latency that its definition gives.
LATENCIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "pointwise": (lambda: nn.Conv1d(2, 3, 1), 0),
    "centred": (lambda: nn.Conv1d(2, 3, 7, padding=3), 3),
    "valid": (lambda: nn.Conv1d(2, 3, 7), 6),
    "dilated": (lambda: nn.Conv1d(2, 3, 3, padding=10, dilation=10), 10),
    "causal": (lambda: chain(padded(6, 0), nn.Conv1d(2, 3, 7)), 0),
    "causal and dilated": (lambda: chain(padded(18, 0), nn.Conv1d(2, 3, 7, dilation=3)), 0),
    "causal by cropping": (lambda: chain(nn.Conv1d(2, 3, 7, padding=6), cropped(0, 6)), 0),
    "causal and strided": (lambda: chain(padded(3, 0), nn.Conv1d(2, 3, 4, 2)), 0),
    "causal and transposed": (lambda: chain(nn.ConvTranspose1d(2, 3, 8, 4), cropped(0, 4)), 0),
    "causal, there and back": (
        lambda: chain(padded(4, 0), nn.Conv1d(2, 3, 5, 4), nn.ConvTranspose1d(3, 3, 8, 4), cropped(0, 4)), 0
    ),
    "reflected before": (lambda: padded(6, 0, "reflect"), 6),
    "reflected before a layer": (lambda: chain(padded(6, 0, "reflect"), nn.Conv1d(2, 3, 7)), 6),
    "reflected behind zeros": (lambda: chain(padded(6, 0, "reflect"), padded(5, 0)), 1),
    "reflected before and cropped": (lambda: chain(padded(6, 0, "reflect"), cropped(4, 0)), 2),
    "reflected on both sides": (lambda: padded(6, 6, "reflect"), 6),
    "reflected after": (lambda: padded(0, 6, "reflect"), 0),
    "reflected in a layer": (lambda: nn.Conv1d(2, 3, 9, padding=4, padding_mode="reflect"), 4),
    "reflected twice": (lambda: chain(padded(3, 0, "reflect"), padded(5, 0, "reflect")), 2),
    "reflected, then upsampled": (lambda: chain(padded(6, 0, "reflect"), nn.Upsample(scale_factor=3)), 6),
    "reflected, then downsampled": (lambda: chain(padded(6, 0, "reflect"), nn.MaxPool1d(3)), 6),
    "downsampled, then reflected": (lambda: chain(nn.AvgPool1d(4), padded(3, 0, "reflect")), 15),
    "reflected and strided": (lambda: nn.Conv1d(2, 2, 4, 3, padding=2, padding_mode="reflect"), 2),
    "the end of another, turned round": (lambda: ended(torch.abs), 0),
    "the end of every third, turned round": (lambda: ended(lambda x: x[..., 1::3]), 0),
    "the end of three times as many, turned round": (lambda: ended(lambda x: F.interpolate(x, None, 3)), 0),
    "pairs turned round, every third": (
        lambda: chain(Function(lambda x: x.unflatten(2, (-1, 2)).flip(3).flatten(2)), nn.MaxPool1d(1, 3)), 1
    ),
    "replicated": (lambda: padded(6, 6, "replicate"), 0),
    "replicated in a layer": (lambda: nn.Conv1d(2, 3, 9, padding=4, padding_mode="replicate"), 4),
    "patches": (lambda: nn.Conv1d(2, 3, 16, 16), 15),
    "frames": (lambda: nn.Conv1d(2, 3, 40, 16), 39),
    "pools": (lambda: nn.MaxPool1d(5, 3), 4),
    "pools at the border": (lambda: nn.MaxPool1d(5, 3, 2), 2),
    "every fifth": (lambda: Function(lambda x: x[..., ::5]), 0),
    "every fifth, later": (lambda: Function(lambda x: x[..., 3::5]), 3),
    "nearest": (lambda: nn.Upsample(scale_factor=5), 0),
    "transposed": (lambda: nn.ConvTranspose1d(2, 3, 4, 2, 1), 1),
    "transposed, kernel below stride": (lambda: nn.ConvTranspose1d(2, 3, 2, 5), 1),
    "far ahead": (lambda: chain(cropped(5000, 0), padded(0, 5000)), 5000),
    "far ahead in a layer": (lambda: nn.Conv1d(2, 1, 3, padding=9000, dilation=9000), 9000),
    "a window of 40001": (lambda: nn.Conv1d(2, 1, 40001, padding=20000), 20000),
    "a window of 20001 without padding": (lambda: nn.Conv1d(2, 1, 20001), 20000),
    "beside what was": (lambda: Skipped(4), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LATENCIES)
def test_latency_is_what_the_definition_gives(name: str) -> None:
    make, latency = LATENCIES[name]
    assert tiling.stream(seeded(make), (1, 2, 0)).latency == latency


def lag(model: nn.Module, x: Tensor, chunks: Sequence[int], batch: int = 1) -> Any:
    """The most elements that the results ever lag behind; every bit is checked, and what was promised."""
    live = tiling.stream(model, (batch, 2, 0))
    parts, pushed, returned, most = [], 0, 0, 0
    for chunk in x.split(list(chunks), -1):
        parts.append(live.push(chunk))
        pushed, returned = pushed + chunk.shape[-1], returned + parts[-1].shape[-1]
        assert returned >= (pushed - live.latency) * live.rate, "later than its latency says"
        most = max(most, pushed - returned / live.rate)
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))
    return most, live.latency


@pytest.mark.parametrize("name", [name for name in LATENCIES if "far" not in name and "000" not in name])
def test_latency_is_kept_and_no_more_than_is_needed(name: str) -> None:
    model = seeded(LATENCIES[name][0])
    x = image(1, 2, 104 if name in ("beside what was", "pairs turned round, every third") else 101)
    most, latency = lag(model, x, (1,) * x.shape[-1])
    assert latency - 1 < most <= latency
    lag(model, x[..., :-4], (0, 13, 0, 1, 31, 47, x.shape[-1] - 96, 0))


def test_a_model_of_multiples_is_tried_no_more_than_a_period_long() -> None:
    model = Function(lambda x: x.unflatten(2, (-1, 80)).flip(3).flatten(2))
    assert lag(model, image(1, 2, 1280), (7, 400, 313, 560))[1] == 79


def test_a_look_ahead_of_5000_is_the_whole() -> None:
    model = seeded(lambda: nn.Conv1d(2, 1, 3, padding=5000, dilation=5000))
    assert lag(model, image(1, 2, 12007), (4999, 2, 1999, 5007))[1] == 5000


KINDS = ("conv", "transposed", "reflect", "replicate", "zeros", "crop", "pool", "nearest", "skip", "modes")


@st.composite
def lines(draw: st.DrawFn) -> nn.Module:
    """A chain of layers of two channels."""
    layers: list[nn.Module] = []
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)):
        few, more, step = draw(st.integers(0, 4)), draw(st.integers(0, 4)), draw(st.integers(1, 3))
        kernel = draw(st.integers(1, 5))
        if kind == "conv":
            layers.append(nn.Conv1d(2, 2, kernel, step, few, dilation=1 + more // 2))
        elif kind == "transposed":
            layers.append(nn.ConvTranspose1d(2, 2, kernel, step, min(few, kernel - 1) // 2))
        elif kind in ("reflect", "replicate"):
            layers.append(padded(few, more, kind))
        elif kind == "zeros":
            layers.append(padded(few, more))
        elif kind == "crop":
            layers.append(cropped(few, more))
        elif kind == "pool":
            layers.append(nn.MaxPool1d(kernel, step, kernel // 2))
        elif kind == "nearest":
            layers.append(nn.Upsample(scale_factor=step))
        elif kind == "skip":
            layers.append(chain(Skipped(step), nn.Conv1d(4, 2, 1)))
        else:
            mode: Any = draw(st.sampled_from(["reflect", "replicate"]))
            layers.append(nn.Conv1d(2, 2, kernel, step, kernel // 2, padding_mode=mode))
    return chain(*layers)


def runs(model: nn.Module, x: Tensor) -> bool:
    try:
        whole_of(model, x)
    except RuntimeError:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(lines(), st.integers(0, 10**6))
def test_any_latency_is_kept(model: nn.Module, seed: int) -> None:
    model = seeded(lambda: model)
    x = next((x for n in range(199, 220) if runs(model, x := image(1, 2, n))), None)
    if x is None:
        return
    drawn, chunks = Random(seed), list[int]()
    while (left := x.shape[-1] - sum(chunks)) > 0:
        chunks.append(min(drawn.choice([0, 1, 1, 2, 3, 7, 13, 60]), left))
    most, latency = lag(model, x, chunks)
    assert most <= latency


# Recurrent layers go on from their state.
class Recurrent(nn.Module):
    """Between convolutions."""

    def __init__(self, kind: Any, layers: int = 1, batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        self.before, self.after = nn.Conv1d(2, 8, 3, padding=1), nn.ConvTranspose1d(16, 2, 4, 2, 1)
        self.layer = kind(8, 16, layers, batch_first=batch_first, **options)
        self.order = (0, 2, 1) if batch_first else (2, 0, 1)
        self.back = (0, 2, 1) if batch_first else (1, 2, 0)

    def forward(self, x: Tensor) -> Any:
        states = self.layer(self.before(x).relu().permute(self.order))[0]
        return self.after(states.permute(self.back))


@pytest.mark.parametrize("chunks", [(1,) * 70, (33, 1, 16, 20), (70,), (3, 60, 7)])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("kind", "layers"), [(nn.LSTM, 1), (nn.LSTM, 2), (nn.GRU, 1), (nn.RNN, 1)])
def test_a_recurrent_layer_goes_on(
    kind: Any, layers: int, batch_first: bool, chunks: tuple[int, ...]
) -> None:
    model, x = seeded(lambda: Recurrent(kind, layers, batch_first)), image(1, 2, 70)
    live = tiling.stream(model, (1, 2, 0))
    parts = [live.push(chunk) for chunk in x.split(chunks, -1)]
    assert live.latency == 2
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_a_recurrent_layer_is_made_once_for_tiles() -> None:
    model, x = seeded(lambda: Recurrent(nn.LSTM)), image(2, 2, 70)
    assert tiling.plan(model, (2, 2, 70), tile=16).kept == ("layer 'layer' (LSTM)",)
    assert_same_bits(tiling.tile_run(model, x, tile=16, progress=False), whole_of(model, x))


def test_a_recurrent_layer_of_both_directions_is_refused() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(2, 3, bidirectional=True)

        def forward(self, x: Tensor) -> Any:
            return self.layer(x.permute(2, 0, 1))[0].permute(1, 2, 0)

    with pytest.raises(
        UnsupportedError, match=r"must not need its whole input to be streamed: got .*recurrent"
    ):
        tiling.stream(Both().eval(), (1, 2, 0))


# What would never return, or not before the end.
class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros(x.shape[0], 2), []
        for t in range(x.shape[-1]):
            state = self.cell(x[..., t], state)
            states.append(state)
        return torch.stack(states, -1)


def decaying(x: Tensor) -> Tensor:
    x = x.clone()
    for t in range(1, x.shape[-1]):
        x[..., t] += 0.9 * x[..., t - 1]
    return x


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (Cells, "more than 10000 operations"),
        (lambda: Function(decaying), "more than 10000 operations"),
    ],
)
def test_steps_from_element_to_element_are_refused(model: Callable[[], nn.Module], got: str) -> None:
    made = model()
    with pytest.raises(UnsupportedError, match=f"must not go from element to element.*got {got}.*legal: "):
        tiling.stream(made, (1, 2, 0))
    assert not any(module._forward_pre_hooks for module in made.modules())


def test_cells_in_a_loop_are_refused_in_tiles() -> None:
    with pytest.raises(UnsupportedError, match="element to element to be run in tiles"):
        tiling.plan(chain(Cells(), Recurrent(nn.GRU)).eval(), (1, 2, 10**5))


@pytest.mark.parametrize("mode", ["reflect", "circular"])
@pytest.mark.parametrize("model", ["mean", "cumsum", "flip", "softmax", "norm", "pool", "circular"])
def test_what_needs_the_end_first_is_refused(model: str, mode: Any) -> None:
    models: dict[str, nn.Module] = {
        "mean": Function(lambda x: x - x.mean(-1, keepdim=True)),
        "cumsum": Function(lambda x: x.cumsum(-1)),
        "flip": Function(lambda x: x.flip(-1)),
        "softmax": Function(lambda x: x.softmax(-1)),
        "norm": nn.InstanceNorm1d(2),
        "pool": nn.AdaptiveAvgPool1d(1),
        "circular": nn.Conv1d(2, 2, 5, padding=2, padding_mode="circular"),
    }
    before = nn.Identity() if mode == "circular" else nn.Conv1d(2, 2, 5, padding=2, padding_mode=mode)
    with pytest.raises(UnsupportedError, match="legal: "):
        tiling.stream(chain(before, models[model]).eval(), (1, 2, 0))


def test_lengths_that_are_tried_are_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    assert tiling.stream(Skipped(6), (1, 2, 0)).rate == 1
    assert capfd.readouterr().err == ""


def test_two_inputs_are_one_sentence() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(
        ShapeError, match="missing 1 required positional argument: 'y'; legal: a module around"
    ):
        tiling.stream(Sum(), (1, 2, 0))


ONE_AXIS: dict[str, Callable[[], nn.Module]] = {
    "centred": lambda: nn.Conv1d(2, 3, 5, padding=2),
    "causal": lambda: chain(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(2, 3, 5)),
    "strided": lambda: chain(nn.Conv1d(2, 4, 4, 2, 1), nn.ReLU(), nn.Conv1d(4, 4, 7, 5, 3)),
    "transposed": lambda: nn.ConvTranspose1d(2, 3, 7, 3, 2, output_padding=1),
    "decoder": lambda: chain(
        nn.Conv1d(2, 8, 7, padding=3), nn.LeakyReLU(0.1), nn.ConvTranspose1d(8, 4, 16, 8, 4),
        Residual(nn.LeakyReLU(0.1), nn.Conv1d(4, 4, 3, padding=5, dilation=5)),
        nn.ConvTranspose1d(4, 2, 4, 2, 1), nn.Conv1d(2, 1, 7, padding=3), nn.Tanh(),
    ),
    "pools": lambda: chain(nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(3, 2, 1, ceil_mode=True)),
    "there_and_back": lambda: chain(nn.Conv1d(2, 4, 4, 4), nn.Upsample(scale_factor=4), nn.Conv1d(4, 1, 3)),
    "reflect": lambda: nn.Conv1d(2, 3, 5, padding=2, padding_mode="reflect"),
    "cropped": lambda: chain(nn.ConvTranspose1d(2, 3, 5, 2, 4), nn.Conv1d(3, 2, 3, padding=1)),
    "fours": lambda: chain(Function(lambda x: x.unflatten(2, (-1, 4)).flatten(2)), nn.Conv1d(2, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_AXIS)
@pytest.mark.parametrize("chunks", [(1,) * 64, (64,), (7, 0, 30, 1, 26), (63, 1)])
def test_a_stream_is_the_whole(name: str, chunks: tuple[int, ...]) -> None:
    model = seeded(ONE_AXIS[name])
    x = image(1, 2, sum(chunks))
    live = tiling.stream(model, (1, 2, 0))
    parts, pushed, returned = [], 0, 0
    for chunk in x.split(chunks, -1):
        parts.append(live.push(chunk))
        pushed, returned = pushed + chunk.shape[-1], returned + parts[-1].shape[-1]
        assert returned >= (pushed - live.latency) * live.rate, "later than its latency says"
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


@settings(max_examples=60, deadline=None)
@given(
    networks([kind for kind in ALL_KINDS if kind not in ("function", "softmax", *WHOLE_KINDS)], 1), st.data()
)
def test_any_network_as_it_arrives(network: tuple[nn.Module, tuple[int, ...]], data: st.DataObject) -> None:
    model, shape = network
    model = seeded(lambda: model)
    if not accepts(model, shape):
        return
    x = image(*shape)
    live = tiling.stream(model, shape)
    parts = []
    while x.shape[-1]:
        chunk = data.draw(st.integers(1, 9))
        parts.append(live.push(x[..., :chunk]))
        x = x[..., chunk:]
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, image(*shape)))


def test_a_long_stream_holds_little() -> None:
    model = seeded(ONE_AXIS["decoder"])
    x = image(1, 2, 40000)
    live = tiling.stream(model)
    parts = [live.push(chunk) for chunk in x.split(1000, -1)]
    held = sum(tensor.numel() for tensor in live._held.values())
    assert held < 3000
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


@pytest.mark.parametrize(("name", "latency"), [("centred", 2), ("causal", 0), ("transposed", 1)])
def test_latency_is_what_the_layers_look_ahead(name: str, latency: int) -> None:
    assert tiling.stream(seeded(ONE_AXIS[name]), (1, 2, 0)).latency == latency


def test_streams_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ArgumentError, match="'shape' must say what a chunk looks like"):
        tiling.stream(conv(1, 1, 3))
    with pytest.raises(UnsupportedError, match="must not need its whole input"):
        tiling.stream(Function(lambda x: x - x.mean(-1, keepdim=True)), (1, 2, 0))
    with pytest.raises(UnsupportedError, match="the end of its input first"):
        tiling.stream(nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"))
    live = tiling.stream(seeded(ONE_AXIS["centred"]))
    with pytest.raises(ArgumentError, match="'chunk' must go on"):
        live.push(image(1, 3, 4))
    live.push(image(1, 2, 9))
    live.close()
    with pytest.raises(ShapeError, match="'push' must come before 'close'"):
        live.push(image(1, 2, 9))
