"""Tools of torch's that know layers by their class, copies of models, and what belongs to a model."""

from __future__ import annotations

import copy
import io
import threading
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.fx.experimental import optimization

import outstride
from outstride import accelerate, artifacts, convert, nn, restore
from outstride.acceleration import summary
from outstride.errors import ArgumentError
from tests.tolerance import assert_same_bits, assert_within, assert_within_roundings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def _model(layers: Any = torch.nn) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        layers.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        layers.ConvTranspose2d(8, 3, 4, stride=2, padding=1),
    )


def _input(size: int = 8) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _assert_near(a: Tensor, b: Tensor) -> None:
    """Of whole models, whose other layers round as torch pleases."""
    assert_within_roundings(a, b, 256, "three layers of at most 72 products each, in another order")


def _names(model: Any) -> list[str]:
    return [type(part).__name__ for part in model.children()]


def test_fx_fuses_batch_norm_into_served_layers() -> None:
    fast = accelerate(_model()).eval()
    fused = optimization.fuse(fast)
    assert _names(fused) == ["Conv2d", "ReLU", "ConvTranspose2d"]
    layers: Any = list(fused.children())
    assert isinstance(layers[0], nn.Conv2d)
    assert isinstance(layers[2], nn.ConvTranspose2d)
    _assert_near(fused(_input()), fast(_input()))
    alone: Any = torch.nn.utils.fuse_conv_bn_eval(fast[0], fast[1])
    assert isinstance(alone, nn.Conv2d)
    assert vars(alone)["forward"].__self__.layer is alone


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("aware", [False, True])
def test_eager_quantisation_takes_served_layers(aware: bool, fuse: bool) -> None:
    def quantised(model: Any) -> tuple[list[str], list[str], Any]:
        model.train(aware)
        if fuse:
            together: Any = quantization.fuse_modules_qat if aware else quantization.fuse_modules
            model = together(model, [["1", "2", "3"]])
        config: Any = quantization.get_default_qat_qconfig if aware else quantization.get_default_qconfig
        model.qconfig = config("x86")
        prepare: Any = quantization.prepare_qat if aware else quantization.prepare
        convert_eagerly: Any = quantization.convert
        prepared = prepare(model)
        prepared(_input())
        ready = convert_eagerly(prepared.eval())
        return _names(prepared), [type(part).__module__ for part in ready], ready(_input()) if fuse else None

    inner = list(_model()[:3])
    stock = torch.nn.Sequential(quantization.QuantStub(), *inner, quantization.DeQuantStub())
    served = accelerate(copy.deepcopy(stock))
    (names, kinds, result), (expected, their_kinds, their_result) = quantised(served), quantised(stock)
    assert names == expected
    assert kinds == their_kinds
    if fuse:
        assert_within(result, their_result, 0.1, "a step of eight bits may fall to either side")


def test_graph_quantisation_takes_served_layers() -> None:
    prepare: Any = quantize_fx.prepare_fx
    convert_graph: Any = quantize_fx.convert_fx

    def quantised(model: torch.nn.Module) -> list[str]:
        prepared = prepare(model, quantization.get_default_qconfig_mapping("x86"), (_input(),))
        prepared(_input())
        return _names(convert_graph(prepared))

    assert quantised(accelerate(_model()[:3]).eval()) == quantised(_model()[:3].eval())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Conv", {}),
        ("Conv", {"padding": "same"}),
        ("Conv", {"padding": 1, "padding_mode": "circular"}),
        ("ConvTranspose", {"stride": 2}),
    ],
)
def test_script_holds_torchs_operators(name: str, options: dict[str, Any], nd: int, own: bool) -> None:
    layer = getattr(nn if own else torch.nn, f"{name}{nd}d")(3, 4, 3, **options)
    layer = layer if own else accelerate(layer)
    script: Any = torch.jit.script
    scripted = script(torch.nn.Sequential(layer, torch.nn.ReLU()).eval())
    assert "outstride::" not in str(scripted.inlined_graph)
    kept = io.BytesIO()
    torch.jit.save(scripted, kept)
    kept.seek(0)
    for size in (5, 8):
        x = torch.randn(2, 3, *[size] * nd)
        _assert_near(torch.jit.load(kept)(x), layer(x).relu())
        kept.seek(0)
    if name == "ConvTranspose":
        assert script(layer)(x, [18] * nd).shape == layer(x, [18] * nd).shape == (2, 4, *[18] * nd)
    assert isinstance(layer, getattr(nn, f"{name}{nd}d"))


def test_script_refuses_in_a_sentence_what_torch_cannot_say() -> None:
    model = torch.nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding="same"))
    script: Any = torch.jit.script
    with pytest.raises(ArgumentError, match=r"'layer' must have torch's options alone .*; legal: "):
        script(model)
    assert isinstance(model[0], nn.Conv2d)


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.lock = threading.Lock()

    def hook(self, *_: Any) -> None:
        with self.lock:
            self.seen.append("forward")

    def __call__(self, *_: Any) -> None:
        self.seen.append("called")


def test_hooks_reach_their_owner() -> None:
    model, recorder = _model(), Recorder()
    handle = model[0].register_forward_hook(recorder.hook)
    model[3].register_forward_pre_hook(recorder)
    model[3].register_full_backward_hook(partial(recorder.hook, "more"))
    fast = accelerate(model)
    fast(_input()).sum().backward()
    assert recorder.seen == ["forward", "called", "forward"]
    model(_input())
    assert recorder.seen[3:] == ["forward", "called"]
    handle.remove()
    model(_input())
    fast(_input())
    assert recorder.seen[5:] == ["called", "forward", "called"]
    fast[0].register_forward_hook(recorder)
    assert len(model[0]._forward_hooks) == 0
    restore(fast)(_input())
    assert recorder.seen[8:] == ["forward", "called", "called"]


class Holder(torch.nn.Module):
    """A model that cannot be copied deeply, and refers to itself in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.lock = threading.Lock()
        self.event = weakref.ref(self.layer)
        self.features: Tensor | None = None
        self.chain: list[Any] = [self.layer, torch.nn.functional.relu]
        self.by_name: dict[str, Any] = {"layer": self.layer, "again": {"layer": (self.layer,)}}
        self.around: list[Any] = [self.chain]
        self.around.append(self.around)
        self.__dict__["me"] = self
        self.handle = self.layer.register_forward_hook(self.keep)
        self.layer.register_forward_pre_hook(partial(Holder.count, self))
        register: Any = self.register_load_state_dict_pre_hook
        register(Holder.loading)
        self.calls = 0
        self.loaded: Any = None

    def keep(self, *call: Any) -> None:
        self.features = call[2]

    def count(self, *_: Any) -> None:
        self.calls += 1

    @staticmethod
    def loading(module: Any, *_: Any) -> None:
        module.loaded = id(module)

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            for part in self.chain:
                x = part(x)
        return x


def test_only_modules_are_copied_and_they_know_each_other() -> None:
    model = Holder()
    fast = accelerate(model)
    result = fast(_input())
    assert fast.features is not None
    assert_same_bits(fast.features.relu(), result)
    assert model.features is None
    assert (fast.calls, model.calls) == (1, 0)
    assert fast.lock is model.lock
    assert fast.chain[0] is fast.by_name["layer"] is fast.by_name["again"]["layer"][0] is fast.layer
    assert isinstance(fast.layer, nn.Conv2d)
    assert not isinstance(model.layer, nn.Conv2d)
    assert fast.me is fast
    fast.load_state_dict(model.state_dict())
    assert fast.loaded == id(fast)
    assert model.loaded is None
    fast.handle.remove()
    assert len(fast.layer._forward_hooks) == 0
    assert len(model.layer._forward_hooks) == 1
    assert_same_bits(restore(fast)(_input()), model(_input()))


def test_copies_and_pickles_of_a_served_model_are_served_by_themselves() -> None:
    fast: Any = accelerate(_model()).eval()
    kept = io.BytesIO()
    torch.save(fast, kept)
    kept.seek(0)
    for other in (copy.deepcopy(fast), torch.load(kept, weights_only=False), accelerate(fast)):
        assert isinstance(other[3], nn.ConvTranspose2d)
        assert vars(other[3])["forward"].__self__.layer is other[3]
        assert_same_bits(other(_input()), fast(_input()))
    shallow: Any = accelerate(copy.copy(fast[0]), inplace=True)
    assert shallow.forward.__self__.layer is shallow


def test_graph_modules_are_copied_with_a_graph_of_their_own() -> None:
    traced = torch.fx.symbolic_trace(_model().eval())
    fast = accelerate(traced)
    assert fast.graph is not traced.graph
    assert fast.graph.owning_module is fast
    assert isinstance(fast.get_submodule("0"), nn.Conv2d)
    _assert_near(fast(_input()), traced(_input()))


class OwnPadding(torch.nn.ConvTranspose2d):
    def _output_padding(self, *_: Any, **__: Any) -> list[int]:
        return [1, 0]


class OwnServedPadding(nn.ConvTranspose2d):
    def _output_padding(self, *_: Any, **__: Any) -> list[int]:
        return [1, 0]


class OwnWeight(torch.nn.Conv2d):
    @property
    def weight(self) -> Any:  # type: ignore[override]  # as people write it
        held: Any = self._parameters.get("weight")
        if held is None:
            raise AttributeError("weight")
        return 3 * held


def test_overrides_are_followed_as_torch_follows_them() -> None:
    x = _input()
    for layer in (torch.nn.Conv2d(3, 4, 3), torch.nn.ConvTranspose2d(3, 4, 3, stride=2)):
        own = copy.deepcopy(layer)
        own.__class__ = getattr(nn, type(layer).__name__)
        for fast in (accelerate(layer), own):
            changed = copy.deepcopy(layer)
            for other in (changed, fast):
                other.__dict__["weight"] = 2 * layer.weight.detach()
                other.__dict__["bias"] = None
            _assert_near(fast(x), changed(x))
            assert (fast(x) - layer(x)).abs().max() > 1e-3, "the change changes nothing"
    up: Any
    for up in (OwnPadding(3, 4, 3, stride=2), OwnServedPadding(3, 4, 3, stride=2)):
        assert accelerate(up)(x).shape == (1, 4, 18, 17)
        assert up(x, output_size=(17, 17)).shape == (1, 4, 18, 17)
    stock: Any
    for stock in (torch.nn.ConvTranspose2d(3, 4, 3, stride=2), nn.ConvTranspose2d(3, 4, 3, stride=2)):
        up = accelerate(stock)
        up._output_padding = lambda *_: [0, 1]
        assert up(x).shape == (1, 4, 17, 18)
    for stock in (torch.nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)):
        down: Any = accelerate(stock)
        down._conv_forward = lambda *operands: operands[0]
        assert down(x) is x
    weighted = OwnWeight(3, 4, 3, bias=False)
    held: Any = weighted._parameters["weight"]
    torch.nn.init.normal_(held)  # torch initialised what the property made
    _assert_near(accelerate(weighted)(x), torch.nn.functional.conv2d(x, weighted.weight))


def test_the_summary_says_what_is_served_and_why_not() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.Conv1d(3, 4, 3).to(torch.complex64),
        OwnPadding(3, 4, 3),
        torch.nn.ReLU(),
    )
    patched: Any = torch.nn.Conv2d(3, 4, 3)
    patched.forward = lambda x: x
    model.add_module("patched", patched)
    assert summary(model).layers[0][2] == "by torch: accelerate was not asked"
    found = summary(accelerate(model))
    assert [name for name, *_ in found.layers] == ["0", "1", "2", "patched"]
    fates = [fate for *_, fate in found.layers]
    assert fates[0] == "served"
    assert "complex64" in fates[1]
    assert "'_output_padding' of its own" in fates[2]
    assert "'forward' was replaced" in fates[3]
    assert str(found).startswith("1 of 4 layers are served\n  0")
    assert str(summary(torch.nn.ReLU())) == "0 of 0 layers are served"
    assert summary(nn.Conv2d(3, 4, 3)).layers[0][::2] == ("(model)", "served")


@pytest.mark.parametrize(
    "call",
    [
        accelerate, restore, summary, artifacts.inspect, artifacts.ripple, convert.to_conv,
        convert.to_subpixel, convert.from_subpixel, convert.to_space_to_depth, convert.from_space_to_depth,
        partial(convert.compare, input_shape=(1, 3, 8, 8)),
        partial(outstride.check, input_shape=(1, 3, 8, 8)), partial(outstride.plan, input_shape=(1, 3, 8, 8)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrong", [5, None, "model", torch.nn.Conv2d])
def test_what_is_no_module_is_refused_in_a_sentence(call: Any, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^'(model|layer)' must be .*: got .*; legal: .*"):
        call(wrong)


@pytest.mark.parametrize("wrong", [5, None, "8x8", (1, 3, 8.5, 8), (1, 3, -8, 8), (1, 3, True, 8)])
def test_shapes_that_are_none_are_refused_in_a_sentence(wrong: Any) -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    for call in (outstride.plan, outstride.check):
        with pytest.raises(ArgumentError, match=r"^'input_shape' must be whole numbers of at least"):
            call(layer, wrong)
    with pytest.raises(ArgumentError, match="'layer' must know its weights"):
        outstride.plan(torch.nn.LazyConv2d(3, 3), (1, 3, 8, 8))
