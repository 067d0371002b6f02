"""What is captured is what torch runs, whoever calls and however; and nobody notices that it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from outstride import accelerate, check, tiling
from outstride.errors import ShapeError, UnsupportedError
from outstride.models.graph import capture
from outstride.models.recording import Recorder
from outstride.tiling.capturing import served_graph
from tests.tiling.models_to_tile import Function, UNet, image, seeded, whole_of
from tests.tolerance import assert_differ, assert_same_bits, assert_same_numbers

F, chain = nn.functional, nn.Sequential


class Tokens(nn.Module):
    """From a map to tokens and back, then a depthwise layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.depthwise = layer, nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        return F.gelu(self.depthwise(tokens.transpose(1, 2).reshape(x.shape)))


class Excited(nn.Module):
    """A squeeze-and-excitation block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.less, self.more = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x * torch.sigmoid(self.more(F.silu(self.less(x.mean((2, 3), keepdim=True)))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x, x, x, need_weights=False)[0]
        return result


def pixels(layer: nn.Module) -> nn.Module:
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.first = layer, nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return result

    return Pixels()


def written(x: Tensor) -> Tensor:
    x = x.clone()
    x[..., 2:5] = 0
    x[:, :1] *= 2
    x.view(x.shape[0], -1)[:, 3:9] += 1
    x.transpose(1, 2)[0] = 4
    first, second = x.chunk(2, 1)
    first += second
    return x.relu_()


CAPTURED: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: chain(nn.Conv2d(8, 3, 1), UNet("nearest", nn.GELU)),
    "tokens": lambda: Tokens(nn.Identity()),
    "tokens_linear": lambda: Tokens(nn.Linear(8, 8)),
    "tokens_norm": lambda: Tokens(nn.LayerNorm(8)),
    "tokens_attention": lambda: Tokens(Attention()),
    "excited": Excited,
    "linear": lambda: pixels(nn.Linear(8, 8)),
    "linear_no_bias": lambda: pixels(nn.Linear(8, 8, bias=False)),
    "norm": lambda: pixels(nn.LayerNorm(8)),
    "turned_norm": lambda: chain(
        Function(lambda x: x.transpose(2, 3)), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
    ),
    "written": lambda: Function(written),
    "instance_norm": lambda: nn.InstanceNorm2d(8),
}


class Log(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(func, result)
        return result

    def note(self, func: Any, result: Any) -> None:
        made = [tensor for tensor in pytree.tree_leaves(result) if isinstance(tensor, Tensor)]
        if made and "detach" not in str(func):
            self.calls.append((str(func), tuple(made[0].shape), made[0].stride()))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", CAPTURED)
def test_a_graph_is_what_torch_runs(
    name: str, batch: int, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same operators in the same order, with results of the same strides, those of axes of size 1 too."""
    model = seeded(CAPTURED[name])
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = image(batch, 8, 16, 20)
    ran, captured, dispatch = Log(), Log(), Recorder.__torch_dispatch__

    def logged(self: Recorder, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = dispatch(self, func, types, args, kwargs)
        captured.note(func, result)
        return result

    with torch.no_grad(), ran:
        accelerate(model)(x)
    monkeypatch.setattr(Recorder, "__torch_dispatch__", logged)
    served_graph(model, x.shape, x.dtype)
    assert captured.calls == ran.calls


@pytest.mark.parametrize("name", CAPTURED)
def test_what_is_captured_has_the_bits_of_the_whole(name: str) -> None:
    for model in (seeded(CAPTURED[name]), seeded(CAPTURED[name]).to(memory_format=torch.channels_last)):  # type: ignore[call-overload]
        for x in (image(1, 8, 40, 44), image(2, 8, 40, 44)):
            assert_same_bits(tiling.tile_run(model, x, tile=(13, 17), progress=False), whole_of(model, x))


# Whoever calls.
class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class WatchingFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode, "no_grad": torch.no_grad, "grad": torch.enable_grad,
    "device": lambda: torch.device("meta"), "default_device": default_device, "double": double,
    "deterministic": deterministic, "dispatch": Watching, "functions": WatchingFunctions,
}  # fmt: skip


def resized() -> nn.Module:
    return chain(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2), nn.SiLU(),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2), nn.Softmax(1),
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_modes_have_no_part(mode: str) -> None:
    pytest.importorskip("dask.array")
    model, x, line, sound = (
        seeded(resized),
        image(1, 3, 30, 40),
        nn.Conv1d(2, 3, 5, padding=2),
        image(1, 2, 50),
    )
    expected, heard = whole_of(model, x), whole_of(line, sound)
    with MODES[mode]():
        assert not tiling.plan(model, (1, 3, 20000, 20000), memory="1GB").kept
        got = tiling.tile_run(model, x, tile=23, progress=False)
        live = tiling.stream(line)
        parts = [live.push(sound), live.close()]
        array = tiling.dask(model, x.numpy(), tile=40).compute(scheduler="synchronous")
        assert check(model, (1, 3, 64, 64)).output_fields
    assert_same_bits(got, expected)
    assert_same_bits(torch.cat(parts, -1), heard)
    assert_same_bits(torch.from_numpy(array), expected)


def test_autocast_is_what_the_caller_would_have() -> None:
    pytest.importorskip("dask.array")
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1), Function(Tensor.float)
    model, x = seeded(lambda: chain(*layers)), image(1, 3, 30, 40)
    with torch.autocast("cpu", torch.bfloat16):
        expected = whole_of(model, x)
        got = tiling.tile_run(model, x, tile=13, progress=False)
        lazy = tiling.dask(model, x.numpy(), tile=13)
    assert_differ(expected, whole_of(model, x))
    assert_same_bits(got, expected)
    assert_same_bits(torch.from_numpy(lazy.compute(scheduler="threads")), expected)


# Whatever the model does.
class Careless(nn.Module):
    """Exchanges its weight, counts its calls, fills a buffer and keeps what it saw."""

    calls: Tensor
    mask: Tensor

    def __init__(self, refused: bool) -> None:
        super().__init__()
        self.layer, self.refused = nn.Conv2d(1, 1, 3, padding=1), refused
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([[[[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]]]))
        self.seen: list[Tensor] = []
        self.count, self.lock = 0, threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.data = self.layer.weight.data * self.mask
        self.calls += 1
        self.count += 1
        self.seen.append(x)
        if self.refused:
            return x if x.sum() > 0 else -x
        result: Tensor = self.layer(x)
        return result


@pytest.mark.parametrize("refused", [False, True])
def test_the_model_stays_as_it_was(refused: bool) -> None:
    pytest.importorskip("dask.array")
    model = Careless(refused).eval()
    kept: list[Tensor] = []
    model.layer.register_forward_hook(lambda *seen: kept.append(seen[2]))
    before = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    x = image(1, 1, 20, 20)
    expected = None if refused else whole_with_mask(model, x)
    state = torch.get_rng_state()
    calls: list[Callable[[], Any]] = [
        lambda: tiling.plan(model, (1, 1, 20, 20)),
        lambda: tiling.tile_run(model, x, tile=7, progress=False),
        lambda: tiling.dask(model, x.numpy(), tile=7).compute(scheduler="synchronous"),
        lambda: tiling.stream(model, (1, 1, 20, 0)),
    ]
    for call in calls:
        if refused:
            with pytest.raises(UnsupportedError, match="whatever numbers"):
                call()
        else:
            result = call()
            if isinstance(result, Tensor):
                assert expected is not None
                assert_same_bits(result, expected)
    check(model, (1, 1, 20, 20))
    for name, (tensor, value) in before.items():
        now = model.state_dict(keep_vars=True)[name]
        assert now is tensor
        assert now.device.type == "cpu"
        assert_same_bits(now.detach(), value.detach())
    assert model.count == 0
    assert not model.seen
    assert not kept
    assert not model.training
    assert_same_numbers(state, torch.get_rng_state())


def whole_with_mask(model: Careless, x: Tensor) -> Tensor:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(model.layer.weight * model.mask)
        assert layer.bias is not None
        assert model.layer.bias is not None
        layer.bias.copy_(model.layer.bias)
    return whole_of(layer, x)


def test_numbers_of_weights_may_decide() -> None:
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * float(self.scale) if self.scale > 2 else x

    x = image(1, 2, 12, 13)
    assert_same_bits(tiling.tile_run(Scaled(), x, tile=5, progress=False), whole_of(Scaled(), x))


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda x: x + torch.rand_like(x), UnsupportedError, "draws random numbers by aten.rand_like"),
        (F.dropout, UnsupportedError, "draws random numbers"),
        (lambda x: x[x > 0], UnsupportedError, "whatever numbers"),
        (lambda x: x * x.max().item(), UnsupportedError, "whatever numbers"),
        (lambda x: x.reshape(7, 7), ShapeError, "'model' must run on the source"),
    ],
)
def test_what_cannot_be_captured_is_said_in_one_sentence(
    function: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        tiling.plan(Function(function), (1, 2, 12, 13))
    assert "legal: " in str(caught.value)


def test_functions_of_ones_own_are_captured() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return x * 2

    x = image(1, 2, 12, 13)
    model = Function(Doubled.apply)
    assert_same_bits(tiling.tile_run(model, x, tile=5, progress=False), x * 2)


def test_traced_and_exported_models_are_captured() -> None:
    model, x = seeded(UNet), image(1, 3, 16, 16)
    wanted = capture(model, x.shape, x.dtype)
    for program in (torch.fx.symbolic_trace(model), torch.export.export(model, (x,)).module()):
        assert check(program, x.shape).outputs == check(model, x.shape).outputs
        assert [node.shape for node in capture(program, x.shape, x.dtype).nodes if node.target] == [
            node.shape for node in wanted.nodes if node.target
        ]
        program(x)  # and it still runs itself
