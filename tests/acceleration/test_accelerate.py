"""accelerate and restore: only the ``forward`` of a layer changes, and it changes back."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, weight_norm

from outstride import accelerate, functional, nn, restore
from outstride.nn.serving import serving_of
from tests.tolerance import assert_same_bits, assert_within_roundings


class Plain(torch.nn.Conv2d):
    """A subclass that adds state and leaves the forward to torch."""

    def __init__(self, *arguments: Any, note: str = "", **rest: Any) -> None:
        super().__init__(*arguments, **rest)
        self.note = note


class Standardised(torch.nn.Conv2d):
    """A subclass with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(input, self.weight - self.weight.mean(), self.bias)
        return result


class Scaled(torch.nn.Conv2d):
    """A subclass with a _conv_forward of its own."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result: Tensor = super()._conv_forward(input, 2 * weight, bias)
        return result


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.body = torch.nn.Sequential(
            torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 1, 1)
        )
        self.again = self.body[2]  # the same layer under a second name
        self.listed = [self.down]
        self.up = torch.nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.again(self.body(self.down(x))))
        return result


def _input() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _assert_near(a: Tensor, b: Tensor) -> None:
    """Of whole models, whose other layers round as torch pleases."""
    assert_within_roundings(a, b, 256, "three layers of at most 72 products each, in another order")


def _is_served(model: torch.nn.Module) -> bool:
    return isinstance(model, nn.Conv2d)


def _convs(model: torch.nn.Module) -> list[type]:
    return [_computed_as(m) for m in model.modules() if isinstance(m, torch.nn.modules.conv._ConvNd)]


def _computed_as(layer: torch.nn.Module) -> type:
    """The class whose instance a layer is to whoever calls it."""
    serving = serving_of(layer)
    return type(layer) if serving is None else serving.served


def test_a_copy_shares_every_tensor_and_leaves_the_model_alone() -> None:
    model = Net().eval()
    before = repr(model)
    fast: Any = accelerate(model)
    assert fast is not model
    assert repr(model) == before == repr(fast)
    assert _convs(model) == [torch.nn.Conv2d, torch.nn.Conv2d, torch.nn.ConvTranspose2d]
    assert _convs(fast) == [nn.Conv2d, nn.Conv2d, nn.ConvTranspose2d]
    for (name, p), (other, q) in zip(model.named_parameters(), fast.named_parameters(), strict=True):
        assert name == other
        assert p is q
    for (_, b), (_, c) in zip(model.named_buffers(), fast.named_buffers(), strict=True):
        assert b is c
    assert fast.again is fast.body[2]
    assert fast.listed[0] is fast.down
    assert not fast.training
    _assert_near(fast(_input()), model(_input()))


def test_in_place_and_back() -> None:
    model = Net()
    ids = {id(m) for m in model.modules()} | {id(p) for p in model.parameters()}
    expected = model(_input())
    assert accelerate(model, inplace=True) is model
    assert ids == {id(m) for m in model.modules()} | {id(p) for p in model.parameters()}
    _assert_near(model(_input()), expected)
    assert accelerate(model, inplace=True) is model
    assert restore(model) is model
    assert _convs(model) == [torch.nn.Conv2d, torch.nn.Conv2d, torch.nn.ConvTranspose2d]
    assert_same_bits(model(_input()), Net.forward(model, _input()))


def test_training_the_copy_trains_the_model() -> None:
    model = Net()
    fast = accelerate(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    first = fast(_input()).pow(2).mean()
    first.backward()
    optimiser.step()
    assert fast(_input()).pow(2).mean() < first
    _assert_near(fast(_input()), model(_input()))


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("transpose", ["", "Transpose"])
@pytest.mark.parametrize("lazy", ["", "Lazy"])
def test_every_stock_layer_by_itself(nd: int, transpose: str, lazy: str) -> None:
    name = f"Conv{transpose}{nd}d"
    channels = (8,) if lazy else (4, 8)
    layer = getattr(torch.nn, lazy + name)(*channels, 3)
    x = torch.randn(1, 4, *[5] * nd)
    fast = accelerate(layer)
    result = fast(x)
    assert type(fast) is getattr(torch.nn, name)
    assert isinstance(fast, getattr(nn, name))
    assert result.shape[1] == 8
    assert not isinstance(restore(fast), getattr(nn, name))
    assert type(fast) is getattr(torch.nn, name)
    _assert_near(fast(x), result)


@pytest.mark.parametrize("layer", [Standardised, Scaled])
def test_a_forward_of_ones_own_is_left_alone(layer: type[torch.nn.Conv2d]) -> None:
    model = layer(3, 4, 3)
    assert not _is_served(accelerate(model))
    patched = torch.nn.Conv2d(3, 4, 3)
    patched.forward = lambda x: x  # type: ignore[method-assign, assignment]
    assert not _is_served(accelerate(patched, inplace=True))


def test_a_subclass_without_a_forward_is_served_and_stays_itself() -> None:
    model = Plain(3, 4, 3, note="kept")
    fast = accelerate(model)
    assert isinstance(fast, Plain)
    assert isinstance(fast, nn.kinds.ServedConv)
    assert fast.note == "kept"
    assert repr(fast) == repr(model)
    _assert_near(fast(_input()), model(_input()))
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert type(other) is type(fast)
        assert other.note == "kept"
        assert_same_bits(other(_input()), fast(_input()))
        assert _is_served(other)
    assert type(restore(fast)) is Plain
    assert not _is_served(fast)


@pytest.mark.parametrize(
    "wrap", [parametrizations.spectral_norm, parametrizations.weight_norm, parametrizations.orthogonal]
)
def test_parametrised_layers(wrap: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
    model: Any = wrap(torch.nn.Conv2d(3, 4, 3)).eval()
    expected = model(_input())
    fast: Any = accelerate(model)
    assert isinstance(fast, nn.Conv2d)
    assert type(model).__bases__ == (torch.nn.Conv2d,)
    assert parametrize.is_parametrized(fast, "weight")
    for p, q in zip(fast.parameters(), model.parameters(), strict=True):
        assert p is q
    _assert_near(fast(_input()), expected)
    back = restore(copy.deepcopy(fast))
    assert not _is_served(back)
    _assert_near(back(_input()), expected)
    parametrize.remove_parametrizations(fast, "weight")
    assert type(fast) is torch.nn.Conv2d
    assert _is_served(fast)
    _assert_near(fast(_input()), expected)
    assert not _is_served(restore(fast))
    assert parametrize.is_parametrized(model, "weight")
    assert model(_input()).shape == expected.shape


def test_a_parametrisation_that_came_later_is_restored_too() -> None:
    model: Any = parametrizations.weight_norm(accelerate(torch.nn.Conv2d(3, 4, 3)))
    expected = model(_input())
    restore(model)
    assert not _is_served(model)
    _assert_near(model(_input()), expected)
    parametrize.remove_parametrizations(model, "weight")
    assert type(model) is torch.nn.Conv2d


def test_the_old_weight_norm_and_its_plain_attribute() -> None:
    model = weight_norm(torch.nn.ConvTranspose2d(3, 4, 3))
    model(_input())
    fast = accelerate(model)
    assert fast.weight_g is model.weight_g
    _assert_near(fast(_input()), model(_input()))


def test_hooks_names_dtype_and_flags_stay() -> None:
    seen: list[str] = []
    model = Net().to(torch.bfloat16).eval()
    model.down.register_forward_hook(lambda *_: seen.append("down"))
    model.up.weight.requires_grad_(False)
    fast = accelerate(model)
    assert fast(_input().bfloat16()).dtype == torch.bfloat16
    assert seen == ["down"]
    assert list(fast.state_dict()) == list(model.state_dict())
    assert not fast.up.weight.requires_grad
    assert not fast.down.training


def test_a_compiled_model() -> None:
    torch._dynamo.reset()
    model: Any = torch.compile(Net().eval(), backend="eager")
    expected = model(_input())
    accelerate(model, inplace=True)
    assert _computed_as(model._orig_mod.down) is nn.Conv2d
    _assert_near(model(_input()), expected)
    compiled: Any = torch.compile(Net().eval(), backend="eager")
    fast: Any = accelerate(compiled)
    assert _computed_as(fast._orig_mod.up) is nn.ConvTranspose2d
    assert fast(_input()).shape == expected.shape


@pytest.mark.skipif(torch.__version__ < "2.8", reason="its tracer does not follow a served layer's call")
def test_an_accelerated_model_compiles_exports_and_pickles() -> None:
    torch._dynamo.reset()
    fast: Any = accelerate(Net().eval())
    expected = fast(_input())
    compiled: Any = torch.compile(fast, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(_input()), expected)
    program = torch.export.export(fast, (_input(),), strict=False)
    assert "outstride.conv_transpose.default" in [str(node.target) for node in program.graph.nodes]
    assert_same_bits(pickle.loads(pickle.dumps(fast))(_input()), expected)
    state = copy.deepcopy(fast).state_dict()
    stock = Net().eval()
    stock.load_state_dict(state)
    _assert_near(stock(_input()), expected)


@pytest.mark.skipif(torch.__version__ < "2.8", reason="its tracer does not follow a served layer's call")
def test_a_tracer_does_not_follow_how_the_machine_was_tried() -> None:
    torch._dynamo.reset()  # what was warned of before would not be again
    fast, x = accelerate(torch.nn.Linear(16, 16)), torch.randn(3, 16)
    expected = fast(x)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compiled: Any = torch.compile(fast, fullgraph=True, backend="aot_eager")
        assert_same_bits(compiled(x), expected)
    assert not [str(warning.message) for warning in told]


def test_scripted_and_quantised_layers_are_left_alone() -> None:
    script: Any = torch.jit.script
    scripted = script(torch.nn.Conv2d(3, 4, 3))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), scripted)
    accelerate(model, inplace=True)
    assert _computed_as(model[0]) is nn.Conv2d
    assert isinstance(model[1], torch.jit.ScriptModule)
    assert model(_input()).shape == (2, 4, 6, 6)


def test_what_torch_cannot_express_stays_served() -> None:
    model = torch.nn.Sequential(
        nn.ConvTranspose2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, stride=2, padding="same"),
        nn.Conv2d(3, 3, 3, padding=((1, 0), (0, 1))),
        nn.ConvTranspose2d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 3, 3, padding="same"),
    )
    restore(model)
    assert [type(layer).__module__.split(".")[0] for layer in model] == ["outstride"] * 4 + ["torch"]


def test_other_devices_and_an_empty_model() -> None:
    model = accelerate(Net().to("meta"))
    assert model(_input().to("meta")).shape == (2, 3, 8, 8)
    assert isinstance(accelerate(torch.nn.Identity()), torch.nn.Identity)


def test_fx_traces_a_served_model() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1, stride=2),
        torch.nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1),
    )
    x = torch.randn(1, 3, 8, 8)
    served = accelerate(model)
    traced = torch.fx.symbolic_trace(served)
    assert_same_bits(traced(x), served(x))
    # As torch's own layers, they are leaves to it, and stay served.
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    assert _convs(traced) == [nn.Conv2d, nn.ConvTranspose2d]
    own = torch.nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ConvTranspose2d(4, 2, 4, stride=2))
    traced = torch.fx.symbolic_trace(own)
    assert_same_bits(traced(x), own(x))
    assert [node.target for node in traced.graph.nodes if node.op == "call_function"] == [
        functional.conv2d, functional.conv_transpose2d
    ]  # fmt: skip


# -- frozen weights ------------------------------------------------------------------------------------------


def _wide() -> torch.nn.Conv2d:
    return torch.nn.Conv2d(64, 64, 3, padding=1)


def test_frozen_weights_are_not_looked_at_until_they_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = _wide(), torch.randn(1, 64, 6, 6)
    frozen = accelerate(model, frozen=True)
    expected = accelerate(copy.deepcopy(model))(x)
    assert_same_bits(frozen(x), expected)
    with monkeypatch.context() as patch:
        patch.setattr("outstride.engine.launch.weights.snapshots._Fingerprint.is_current", _refuse_to_look)
        patch.setattr("outstride.engine.launch.weights.snapshots._Copy.is_current", _refuse_to_look)
        assert_same_bits(frozen(x), expected)
    restore(frozen)
    model.weight.data.neg_()
    again = accelerate(model)
    assert_same_bits(again(x), accelerate(copy.deepcopy(model))(x))


def _refuse_to_look(*_: object) -> bool:
    raise AssertionError("a frozen weight was looked at")


def test_a_broken_freeze_is_said_and_the_result_is_right() -> None:
    model, x = accelerate(_wide(), frozen=True), torch.randn(1, 64, 6, 6)
    model(x)
    with torch.no_grad():
        model.weight.mul_(2)
    with pytest.warns(UserWarning, match="frozen=True"):
        found = model(x)
    assert_same_bits(found, accelerate(copy.deepcopy(model))(x))


def test_a_weight_in_the_place_of_a_frozen_one_is_no_frozen_one() -> None:
    model, x = accelerate(_wide(), frozen=True), torch.randn(1, 64, 6, 6)
    model(x)
    model.weight.data = torch.randn_like(model.weight)
    for _ in range(2):
        assert_same_bits(model(x), accelerate(copy.deepcopy(model))(x))
        model.weight.data.neg_()


def test_accelerating_again_without_freezing_ends_the_promise() -> None:
    model, x = _wide(), torch.randn(1, 64, 6, 6)
    accelerate(model, frozen=True)(x)
    thawed = accelerate(model)
    thawed(x)
    model.weight.data.neg_()
    assert_same_bits(thawed(x), accelerate(copy.deepcopy(model))(x))
