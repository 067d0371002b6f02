"""Weights are packed once a version and kept: whatever changes a weight, the next result must show it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import outstride.nn
from outstride import reference
from tests.tolerance import assert_close_to_reference, assert_same_bits

Layer = nn.Conv2d | nn.ConvTranspose2d
_LAYERS: dict[str, Callable[[], Layer]] = {
    "conv": lambda: outstride.nn.Conv2d(5, 19, 3, padding=1),
    "conv_transpose": lambda: outstride.nn.ConvTranspose2d(19, 5, 4, stride=2, padding=1),
}
_every_layer = pytest.mark.parametrize("make", _LAYERS.values(), ids=_LAYERS)


def _draw(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _input(layer: Layer) -> Tensor:
    return _draw(2, layer.in_channels, 6, 17)


def _assert_current(layer: Layer) -> None:
    """The layer's result is the definition's on the weight that the layer has now."""
    x, w = _input(layer), layer.weight.detach()
    b = None if layer.bias is None else layer.bias.detach().double().numpy()
    name = "conv_transpose" if isinstance(layer, nn.ConvTranspose2d) else "conv"
    options: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
    define = getattr(reference, name)
    truth = define(x.double().numpy(), w.double().numpy(), b, **options)
    magnitude = define(
        x.double().abs().numpy(), w.double().abs().numpy(), None if b is None else np.abs(b), **options
    )
    with torch.no_grad():
        result = layer(x)
    assert_close_to_reference(result, truth, magnitude, w[0].numel() * w.shape[0], torch.float32)


def _by_optimiser(layer: Layer) -> None:
    step = torch.optim.SGD(layer.parameters(), lr=0.5)
    layer(_input(layer)).square().mean().backward()
    step.step()


def _by_adam(layer: Layer) -> None:
    step = torch.optim.AdamW(layer.parameters(), lr=0.5)
    layer(_input(layer)).square().mean().backward()
    step.step()


def _in_place(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight.mul_(-1.5)


def _one_element(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight[1, 2, 1, 1] += 3


def _by_data_copy(layer: Layer) -> None:
    layer.weight.data.copy_(_draw(*layer.weight.shape, seed=9))


def _by_data_element(layer: Layer) -> None:
    layer.weight.data[0, 0, 0, 0] = 5


def _by_data_last_element(layer: Layer) -> None:
    layer.weight.data.view(-1)[-1] = 5


def _by_data_exchange(layer: Layer) -> None:
    layer.weight.data[0], layer.weight.data[1] = layer.weight.data[1].clone(), layer.weight.data[0].clone()


def _by_data_swap(layer: Layer) -> None:
    layer.weight.data = _draw(*layer.weight.shape, seed=9)


def _by_set(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight.set_(_draw(*layer.weight.shape, seed=9))  # type: ignore[call-overload]  # torch leaves it out


def _by_numpy(layer: Layer) -> None:
    layer.weight.detach().numpy()[...] *= -2


def _by_detached(layer: Layer) -> None:
    layer.weight.detach().add_(1)


def _by_inference_mode(layer: Layer) -> None:
    with torch.inference_mode():
        layer.weight.add_(1)


def _by_state_dict(layer: Layer) -> None:
    state = {name: _draw(*value.shape, seed=9) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)


def _by_assigned_state_dict(layer: Layer) -> None:
    state = {name: _draw(*value.shape, seed=9) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def _by_new_parameter(layer: Layer) -> None:
    layer.weight = nn.Parameter(_draw(*layer.weight.shape, seed=9))


def _by_initialiser(layer: Layer) -> None:
    nn.init.orthogonal_(layer.weight)


def _by_vector(layer: Layer) -> None:
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(vector.detach() * 2, layer.parameters())


def _by_memory_format(layer: Layer) -> None:
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out


def _by_shared_memory(layer: Layer) -> None:
    layer.share_memory()
    with torch.no_grad():
        layer.weight.add_(1)


_CHANGES = [
    _by_optimiser, _by_adam, _in_place, _one_element, _by_data_copy, _by_data_element, _by_data_last_element,
    _by_data_exchange, _by_data_swap, _by_set, _by_numpy, _by_detached, _by_inference_mode, _by_state_dict,
    _by_assigned_state_dict, _by_new_parameter, _by_initialiser, _by_vector, _by_memory_format,
    _by_shared_memory,
]  # fmt: skip


@_every_layer
@pytest.mark.parametrize("change", _CHANGES, ids=[c.__name__.strip("_") for c in _CHANGES])
def test_a_changed_weight_is_seen(make: Callable[[], Layer], change: Callable[[Layer], None]) -> None:
    layer = make()
    for _ in range(2):  # the second round finds a packed weight of the first
        _assert_current(layer)
        change(layer)
        _assert_current(layer)


@pytest.mark.parametrize("element", [0, 1000, 131071, 147455])
def test_a_changed_element_of_a_large_weight_is_seen(element: int) -> None:
    layer = outstride.nn.Conv2d(128, 128, 3)
    x = _draw(1, 128, 5, 5)
    before = layer(x).detach()
    layer.weight.data.view(-1)[element] += 64
    delta = (layer(x).detach() - before).abs().amax()
    assert float(delta) > 1e-2, "the result is that of the weight before"


@pytest.mark.parametrize("first", [0, 1, 999, 147328, 294784])
def test_128_changed_neighbours_in_a_weight_beyond_1_mb_are_seen_at_once(first: int) -> None:
    layer = outstride.nn.Conv2d(256, 128, 3)
    x = _draw(1, 256, 3, 3)
    for _ in range(9):  # every share has had its turn to be the next
        before = layer(x).detach()
        layer.weight.data.view(-1)[first : first + 128] += 64
        assert not torch.equal(layer(x), before), "the result is that of the weight before"


@pytest.mark.parametrize("element", [0, 1000, 131071, 294911])
def test_one_changed_element_of_a_weight_beyond_1_mb_is_seen_within_eight_calls(element: int) -> None:
    layer = outstride.nn.Conv2d(256, 128, 3)
    x = _draw(1, 256, 3, 3)
    before = layer(x).detach()
    layer.weight.data.view(-1)[element] += 64
    assert any(not torch.equal(layer(x), before) for _ in range(8)), "the result is that of the weight before"


@_every_layer
def test_gradients_use_the_current_weight(make: Callable[[], Layer]) -> None:
    layer = make()
    x = _input(layer).requires_grad_()
    layer(x).sum().backward()
    layer.weight.data.mul_(2)
    first = x.grad
    del x.grad
    layer(x).sum().backward()
    assert first is not None
    assert x.grad is not None
    assert_same_bits(x.grad, first * 2)


@_every_layer
def test_copies_do_not_share_what_is_kept(make: Callable[[], Layer]) -> None:
    layer = make()
    _assert_current(layer)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        _assert_current(other)
        with torch.no_grad():
            other.weight.add_(1)
        _assert_current(other)
        _assert_current(layer)


@_every_layer
def test_shared_weights_follow_each_other(make: Callable[[], Layer]) -> None:
    one, two = make(), make()
    two.weight = one.weight
    _assert_current(one)
    _assert_current(two)
    with torch.no_grad():
        one.weight.neg_()
    _assert_current(two)
    _assert_current(one)


@_every_layer
def test_views_of_one_storage_are_told_apart(make: Callable[[], Layer]) -> None:
    layer = make()
    both = _draw(2, *layer.weight.shape)
    for half in (0, 1, 0):
        layer.weight = nn.Parameter(both[half])
        _assert_current(layer)
    both.neg_()
    _assert_current(layer)


@_every_layer
def test_a_new_weight_at_an_old_address_is_seen(make: Callable[[], Layer]) -> None:
    layer = make()
    seen: set[int] = set()
    for seed in range(12):
        layer.weight = nn.Parameter(_draw(*layer.weight.shape, seed=seed))
        seen.add(layer.weight.data_ptr())
        _assert_current(layer)
        gc.collect()
    assert len(seen) < 12, "the allocator never reused an address, so this test saw nothing"


@_every_layer
@pytest.mark.parametrize("parametrise", ["spectral_norm", "weight_norm"])
def test_parametrised_weights(make: Callable[[], Layer], parametrise: str) -> None:
    layer = getattr(nn.utils.parametrizations, parametrise)(make())
    for _ in range(3):
        layer.eval()
        _assert_current(layer)
        layer.train()
        loss = layer(_input(layer)).square().mean()
        torch.autograd.grad(loss, list(layer.parameters()))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(1.25)


@_every_layer
def test_what_is_kept_dies_with_the_weight(make: Callable[[], Layer]) -> None:
    layer = make()
    _assert_current(layer)
    gone = weakref.ref(layer.weight)
    del layer
    gc.collect()
    assert gone() is None, "something keeps a dead layer's weight alive"


def test_packed_memory_is_given_back() -> None:
    """Layers that come and go leave nothing: resident memory stays within a few of their weights."""
    x = _draw(1, 512, 4, 4)

    def resident_bytes() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file of the project
            return int(file.read().split()[1]) * 4096

    weight_bytes = 512 * 512 * 9 * 4
    for _ in range(3):
        outstride.nn.Conv2d(512, 512, 3)(x)
    gc.collect()
    before = resident_bytes()
    for _ in range(20):
        outstride.nn.Conv2d(512, 512, 3)(x)
    gc.collect()
    assert resident_bytes() - before < 6 * weight_bytes
