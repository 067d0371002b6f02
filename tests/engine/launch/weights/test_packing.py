"""Packed weights are kept: whatever changes a weight, the next result must show it."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import outstride.nn
from outstride import reference
from outstride.engine.launch.weights import packer, packing
from tests.tolerance import assert_close_to_reference, assert_differ, assert_same_bits, is_same_numbers

Layer = nn.Conv2d | nn.ConvTranspose2d
_LAYERS: dict[str, Callable[[], Layer]] = {
    "conv": lambda: outstride.nn.Conv2d(5, 19, 3, padding=1),
    "conv_transpose": lambda: outstride.nn.ConvTranspose2d(19, 5, 4, stride=2, padding=1),
}
_every_layer = pytest.mark.parametrize("make", _LAYERS.values(), ids=_LAYERS)


def _draw(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _input(layer: Layer) -> Tensor:
    return _draw(2, layer.in_channels, 6, 17).to(layer.weight.dtype)


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


def _by_fused(optimiser: type[torch.optim.Optimizer]) -> Callable[[Layer], None]:
    """Fused optimisers write without raising the version."""

    def change(layer: Layer) -> None:
        step = optimiser(layer.parameters(), lr=0.5, fused=True)  # type: ignore[call-arg]  # of each of these
        layer(_input(layer)).square().mean().backward()
        step.step()

    return change


def _by_one_more(element: int) -> Callable[[Layer], None]:
    def change(layer: Layer) -> None:
        layer.weight.data.view(-1)[element] += 1

    return change


def _by_sign(layer: Layer) -> None:
    layer.weight.data.neg_()


def _by_doubling(layer: Layer) -> None:
    layer.weight.data.mul_(2)


def _by_sign_of_a_channel(layer: Layer) -> None:
    layer.weight.data[:, 3].neg_()


def _by_sign_in_numpy(layer: Layer) -> None:
    weight = layer.weight.detach().numpy()
    weight *= -1


def _by_order_of_lines(layer: Layer) -> None:
    """Lines A B B A become B A A B: sums of them, and sums of the sums, stay."""
    words = layer.weight.detach().view(-1)
    line = 64 // words.element_size()
    for first, second in ((0, 1), (3, 2)):
        a, b = (words[i * line : (i + 1) * line] for i in (first, second))
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)


_UNCOUNTED = {
    **{
        f"fused_{o.__name__}": _by_fused(o)
        for o in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
    },
    "sign": _by_sign, "doubling": _by_doubling, "sign_of_a_channel": _by_sign_of_a_channel,
    "sign_in_numpy": _by_sign_in_numpy, "order_of_lines": _by_order_of_lines,
    "one_element": _by_one_more(1000), "last_element": _by_one_more(-1), "data_exchange": _by_data_exchange,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(256, 256, 1, 1), (128, 260, 3, 3)], ids=["dense", "window"])
@pytest.mark.parametrize("change", _UNCOUNTED.values(), ids=_UNCOUNTED)
def test_a_change_that_no_version_counts_is_seen_at_once(
    change: Callable[[Layer], None], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Each result is that of a layer that has never seen another weight."""
    outputs, channels, *kernel = shape
    layer = outstride.nn.Conv2d(channels, outputs, (kernel[0], kernel[1]), bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(shape) - 0.3)
    for _ in range(3):
        x = _input(layer)
        layer(x)
        before = layer.weight.detach().clone()
        change(layer)
        with torch.no_grad():
            assert_differ(before, layer.weight, "the change changes nothing")
            found, expected = layer(x), outstride.functional.conv2d(x, layer.weight.detach().clone())
        assert_same_bits(found, expected)


def test_a_write_while_the_weight_is_packed_is_seen_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = _LAYERS["conv"]()
    pack = packer.Packer.pack

    def interrupted(*arguments: Any) -> packer.Packed:
        packed = pack(*arguments)
        layer.weight.data.add_(1)
        return packed

    with monkeypatch.context() as patch:
        patch.setattr(packer.Packer, "pack", interrupted)
        layer(_input(layer))
    _assert_current(layer)


@pytest.mark.parametrize("channels", [4, 64])
def test_threads_that_serve_while_the_weight_is_swapped_use_the_one_or_the_other(channels: int) -> None:
    layer = outstride.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    x = _draw(1, channels, 9, 9)
    weights = [_draw(*layer.weight.shape, seed=seed) for seed in (1, 2)]
    expected = [outstride.functional.conv2d(x, weight, padding=1) for weight in weights]
    layer.weight.data = weights[0].clone()
    done = threading.Event()
    strange: list[Tensor] = []

    def serve() -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            while not done.is_set():
                result = layer(x)
                if not any(is_same_numbers(result, each) for each in expected):
                    strange.append(result)

    interval, threads = sys.getswitchinterval(), [threading.Thread(target=serve) for _ in range(3)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for turn in range(1500):
            layer.weight.data = weights[turn % 2].clone()
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not strange, f"{len(strange)} results belong to neither weight"


def test_packed_weights_that_a_call_may_be_reading_are_not_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = outstride.nn.Conv2d(8, 16, 3)
    seen: list[packer.Packer] = []
    get = packing.PackedWeights.get

    def watched(kept: packing.PackedWeights, weight: Tensor, own: packer.Packer, threads: int) -> Any:
        seen.append(own)
        return get(kept, weight, own, threads)

    with monkeypatch.context() as patch:
        patch.setattr(packing.PackedWeights, "get", watched)
        layer(_draw(1, 8, 6, 6))
    [own] = seen
    for _ in range(100):  # the interpreter rewrites what runs often
        layer.weight.data.add_(1)
        packing.PACKED.get(layer.weight, own, 1)
    reading = packing.PACKED.get(layer.weight, own, 1)
    before = reading.values.clone()
    layer.weight.data.add_(1)
    other = packing.PACKED.get(layer.weight, own, 1)
    assert other.pointer != reading.pointer
    assert_same_bits(reading.values, before)
    pointer = other.pointer
    del other
    layer.weight.data.add_(1)
    if packing._COUNTS:
        assert packing.PACKED.get(layer.weight, own, 1).pointer == pointer, "what nobody reads is free"


def test_few_forms_of_a_weight_are_kept() -> None:
    layer = outstride.nn.Conv2d(24, 40, 3)
    seen: list[tuple[int, str]] = []
    for width in range(3, 400, 7):
        for height in (3, 60):
            layer(_draw(1, 24, height, width))
            forms = packing.PACKED.forms(layer.weight)
            seen += [form for form in forms if form not in seen]
            assert len(forms) == min(len(seen), packing._MOST_FORMS)
    assert len(seen) > 1, "one form serves all sizes, so this test saw nothing"


@_every_layer
def test_a_weight_can_be_swapped(make: Callable[[], Layer], monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.utils.swap_tensors`` refuses tensors that somebody holds a weak reference to."""
    layer = make()
    _assert_current(layer)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.to(torch.float64)
        layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})
        layer.to(torch.float32)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    _assert_current(layer)
    other = nn.Parameter(_draw(*layer.weight.shape, seed=8))
    torch.utils.swap_tensors(layer.weight, other)
    _assert_current(layer)


def test_what_is_kept_of_a_storage_that_moves_is_one_form() -> None:
    """Sharded training frees a weight's memory and takes other memory in every step."""
    flat = _draw(19 * 5 * 9)
    layer = _LAYERS["conv"]()
    layer.weight = nn.Parameter(flat.view(19, 5, 3, 3))
    size = flat.untyped_storage().nbytes()
    blockers = []
    for seed in range(6):
        _assert_current(layer)
        assert len(packing.PACKED.forms(layer.weight)) == 1
        flat.untyped_storage().resize_(0)
        blockers.append(torch.empty(size, dtype=torch.uint8))
        flat.untyped_storage().resize_(size)
        flat.copy_(_draw(flat.numel(), seed=seed))


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
    """The memory is the test's: an allocator need not hand out an address again."""
    layer = make()
    memory = layer.weight.detach().numpy().copy()
    for seed in range(3):
        memory[...] = _draw(*layer.weight.shape, seed=seed).numpy()
        layer.weight = nn.Parameter(torch.from_numpy(memory))
        assert layer.weight.data_ptr() == memory.ctypes.data
        gc.collect()
        _assert_current(layer)


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


@_every_layer
def test_frozen_weights_of_a_file_leave_memory_once_packed(
    make: Callable[[], Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are looked at in every call."""
    released = list[tuple[int, int]]()
    monkeypatch.setattr(packing, "release_file", lambda *memory: released.append(memory))
    layer = make().requires_grad_(False)
    x, weight = _input(layer), layer.weight
    layer(x)
    assert not released
    packing.PACKED.freeze(weight)
    for _ in range(3):
        layer(x)
    assert released == [(weight.data_ptr(), weight.nbytes)]
