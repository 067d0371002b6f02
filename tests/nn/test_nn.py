"""The layers as drop-ins: state, copies, pickles and everything torch hangs on a layer."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import fusion, parametrizations, parametrize, prune, spectral_norm, weight_norm

from outstride import nn
from outstride.layer.spec import ConvSpec
from tests.tolerance import assert_same_bits, assert_same_numbers, assert_within_roundings

_CONVS = [f"Conv{transpose}{nd}d" for transpose in ("", "Transpose") for nd in (1, 2, 3)]
_POOLS = [f"{kind}Pool{nd}d" for kind in ("Max", "Avg") for nd in (1, 2, 3)]
_layer = pytest.mark.parametrize("name", _CONVS)


def _input(name: str, channels: int = 4, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, *[size] * int(name[-2]), generator=generator)


def _make(name: str, **arguments: Any) -> Any:
    torch.manual_seed(2)
    return getattr(nn, name)(4, 6, 3, **{"stride": 2, "padding": 1, "groups": 2, **arguments})


def _assert_near(a: Tensor, b: Tensor) -> None:
    """For results that went through arithmetic of torch's before or after the layer."""
    assert_within_roundings(a, b, 64, "torch sums its 54 products and a bias in another order")


@pytest.mark.parametrize("name", [*_CONVS, *(f"Lazy{c}" for c in _CONVS), *_POOLS])
def test_constructors_take_torchs_arguments_in_torchs_order(name: str) -> None:
    def names(cls: type) -> list[str]:
        parameters = inspect.signature(cls).parameters.values()
        return [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]

    assert names(getattr(nn, name)) == names(getattr(torch.nn, name))
    assert issubclass(getattr(nn, name), getattr(torch.nn, name))


@_layer
def test_state_travels_to_and_from_torchs_layer(name: str) -> None:
    ours = _make(name)
    stock = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1, groups=2)
    assert repr(ours) == repr(stock)
    assert stock.load_state_dict(ours.state_dict()).missing_keys == []
    _assert_near(stock(_input(name)), ours(_input(name)))
    stock.weight.data.mul_(2)
    ours.load_state_dict(stock.state_dict())
    _assert_near(ours(_input(name)), stock(_input(name)))


@_layer
def test_copies_and_pickles(name: str) -> None:
    layer, x = _make(name), _input(name)
    expected = layer(x)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(layer),
        copy.copy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(buffer, weights_only=False),
    ):
        assert type(other) is type(layer)
        assert_same_bits(other(x), expected)
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        changed.weight.zero_()
    assert_same_bits(layer(x), expected)


@_layer
def test_training_changes_the_weight_that_is_used(name: str) -> None:
    layer, x = _make(name), _input(name)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = layer(x).pow(2).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    stock = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1, groups=2)
    stock.load_state_dict(layer.state_dict())
    _assert_near(layer(x), stock(x))


@_layer
@pytest.mark.parametrize(
    "wrap", ["spectral_norm", "weight_norm", "spectral", "weight", "orthogonal", "prune"]
)
def test_reparametrised_weights(name: str, wrap: str) -> None:
    def wrapped(layer: Any) -> Any:
        torch.manual_seed(4)
        if wrap == "prune":
            return prune.l1_unstructured(layer, "weight", amount=0.5)
        functions: dict[str, Any] = {
            "spectral_norm": spectral_norm,
            "weight_norm": weight_norm,
            "spectral": parametrizations.spectral_norm,
            "weight": parametrizations.weight_norm,
            "orthogonal": parametrizations.orthogonal,
        }
        return functions[wrap](layer)

    x = _input(name)
    stock = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1, groups=2)
    stock.load_state_dict(_make(name).state_dict())
    ours, theirs = wrapped(_make(name)), wrapped(stock)
    for _ in range(2):  # spectral norm moves with every call in training
        a, b = ours(x), theirs(x)
        _assert_near(a, b)
    a.sum().backward()
    b.sum().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        _assert_near(p.grad, q.grad)
    if wrap in ("spectral", "weight", "orthogonal"):
        parametrize.remove_parametrizations(ours, "weight")
        assert type(ours) is getattr(nn, name)
        assert ours(x).shape == a.shape


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_batch_norm_is_fused_into_the_layer(name: str) -> None:
    layer, norm, x = _make(name, groups=1).eval(), torch.nn.BatchNorm2d(6).eval(), _input(name)
    norm.running_mean = torch.linspace(-1, 1, 6)
    fused = fusion.fuse_conv_bn_eval(layer, norm, transpose="Transpose" in name)
    assert type(fused) is type(layer)
    _assert_near(fused(x), norm(layer(x)))


@_layer
def test_channels_last_half_and_meta(name: str) -> None:
    layer = _make(name)
    if "3" not in name and "1" not in name:
        last = layer.to(memory_format=torch.channels_last)
        assert last(_input(name)).is_contiguous(memory_format=torch.channels_last)
    assert copy.deepcopy(layer).to(torch.bfloat16)(_input(name).bfloat16()).dtype == torch.bfloat16
    expected = layer(_input(name)).shape
    assert layer.to("meta")(_input(name).to("meta")).shape == expected


@_layer
def test_complex_layers_give_torchs_result(name: str) -> None:
    stock = getattr(torch.nn, name)(2, 2, 3, dtype=torch.complex64)
    layer = getattr(nn, name)(2, 2, 3, dtype=torch.complex64)
    layer.load_state_dict(stock.state_dict())
    x = _input(name, 2).to(torch.complex64)
    assert_same_numbers(layer(x), stock(x))


@_layer
def test_what_torch_refuses(name: str) -> None:
    transposed = "Transpose" in name
    x = _input(name, size=7)
    same = _make(name, padding="same")
    assert "padding=same" in repr(same)
    assert tuple(same(x).shape[2:]) == ((14,) if transposed else (4,)) * same.nd
    pairs = _make(name, padding=[(0, 1)] * same.nd)
    assert f"padding={((0, 1),) * same.nd}" in repr(pairs)
    whole = _make(name, padding=0)
    whole.load_state_dict(pairs.state_dict())
    cut, widened = [0, -1] * same.nd, [0, 1] * same.nd
    expected = F.pad(whole(x), cut) if transposed else whole(F.pad(x, widened))
    _assert_near(pairs(x), expected)
    for mode in ("reflect", "replicate", "circular"):
        layer = _make(name, padding_mode=mode)
        assert f"padding_mode={mode}" in repr(layer)
        assert layer(x).isfinite().all()
        again = pickle.loads(pickle.dumps(layer))
        assert_same_bits(again(x), layer(x))
        assert ConvSpec.of(layer).padding_mode == mode
    if transposed:
        assert _make(name, padding="valid")(x).shape == _make(name, padding=0)(x).shape


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_output_size_of_a_layers_forward(nd: int) -> None:
    layer = getattr(nn, f"ConvTranspose{nd}d")(2, 3, 3, stride=2, output_padding=1)
    stock = getattr(torch.nn, f"ConvTranspose{nd}d")(2, 3, 3, stride=2, output_padding=1)
    stock.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, *[4] * nd)
    for size in (None, [9] * nd, [10] * nd, torch.Size([2, 3, *[10] * nd])):
        assert layer(x, output_size=size).shape == stock(x, output_size=size).shape
        _assert_near(layer(x, size), stock(x, size))
    assert layer(x[0], [3, *[9] * nd]).shape == (3, *[9] * nd)


@pytest.mark.parametrize("name", _CONVS)
def test_lazy_layers_become_ours(name: str) -> None:
    layer = getattr(nn, f"Lazy{name}")(6, 3, padding="same", stride=2)
    assert isinstance(layer, getattr(torch.nn, f"Lazy{name}"))
    result = layer(_input(name))
    assert type(layer) is getattr(nn, name)
    assert layer.in_channels == 4
    assert result.shape[1] == 6


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [None, 1, 2, 3])
def test_same_pooling_is_tensorflows(size: int, kernel: int, stride: int | None) -> None:
    x = torch.randn(2, 3, size, size + 1)
    step = stride or kernel
    out = [-(-n // step) for n in x.shape[2:]]
    total = [max((o - 1) * step + kernel - n, 0) for o, n in zip(out, x.shape[2:], strict=True)]
    ends = [end for t in reversed(total) for end in (t // 2, t - t // 2)]
    padded = F.pad(x, ends, value=float("-inf"))
    assert_same_numbers(nn.MaxPool2d(kernel, stride, "same")(x), F.max_pool2d(padded, kernel, step))
    values, indices = nn.MaxPool2d(kernel, stride, "same", return_indices=True)(x)
    assert_same_numbers(x.flatten(2).gather(2, indices.flatten(2)).view_as(values), values)
    with_border = F.avg_pool2d(F.pad(x, ends), kernel, step)
    counted = nn.AvgPool2d(kernel, stride, "same", count_include_pad=True)
    scale = F.avg_pool2d(F.pad(x.abs(), ends), kernel, step)
    why = "the terms in another order, and quotients"
    assert_within_roundings(counted(x), with_border, kernel**2 + 1, why, scale=scale)
    count = F.avg_pool2d(F.pad(torch.ones_like(x), ends), kernel, step)
    without = nn.AvgPool2d(kernel, stride, "same")
    assert_within_roundings(without(x), with_border / count, kernel**2 + 2, why, scale=scale / count)
    by_three = nn.AvgPool2d(kernel, stride, "same", divisor_override=3)
    thirds = with_border * kernel * kernel / 3
    assert_within_roundings(by_three(x), thirds, kernel**2 + 3, why, scale=scale * kernel * kernel / 3)
    assert "padding=same" in repr(without)


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_same_pooling_of_every_dimension(nd: int) -> None:
    x = torch.randn(2, 3, *[5] * nd)
    for layer in (
        getattr(nn, f"MaxPool{nd}d")(2, padding="same"),
        getattr(nn, f"AvgPool{nd}d")(2, padding="same"),
    ):
        result = layer(x)
        assert result.shape == (2, 3, *[3] * nd)
        # The last window holds the last element alone.
        assert_same_numbers(result.flatten(2)[..., -1], x.flatten(2)[..., -1])
        assert_same_numbers(layer(x[0]), result[0])
    integers = torch.arange(5).view(1, 5)
    assert nn.MaxPool1d(2, padding="same")(integers.float()).tolist() == [[1, 3, 4]]


def test_a_pooling_window_of_padding_alone_is_refused() -> None:
    layer = nn.MaxPool1d(2, 1, "same", dilation=4)
    assert layer(torch.randn(1, 1, 9)).shape == (1, 1, 9)
    with pytest.raises(RuntimeError, match="dilation"):
        layer(torch.randn(1, 1, 1))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel() -> None:
    model = torch.nn.Sequential(nn.Conv2d(3, 4, 3), torch.nn.ReLU(), nn.ConvTranspose2d(4, 3, 3))
    alone = copy.deepcopy(model)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    x = torch.randn(2, 3, 8, 8)
    for each in (parallel, alone):
        each(x).pow(2).sum().backward()
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert_same_bits(p.grad, q.grad)


def test_functional_call_and_stateless_ensembles() -> None:
    layer, x = _make("Conv2d"), _input("Conv2d")
    doubled = {name: 2 * p.detach() for name, p in layer.named_parameters()}
    _assert_near(torch.func.functional_call(layer, doubled, (x,)), 2 * layer(x))
    stacked = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in layer.named_parameters()}
    results = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(stacked)
    assert_same_bits(results[0], layer(x).detach())


def test_a_changed_attribute_is_obeyed() -> None:
    layer, x = nn.Conv2d(4, 4, 3, padding=1), _input("Conv2d")
    assert layer(x).shape[-1] == 6
    layer.stride = (2, 2)
    assert layer(x).shape[-1] == 3
    layer.padding = (0, 0)
    assert layer(x).shape[-1] == 2


def test_hooks_run() -> None:
    seen: list[str] = []
    layer = nn.Conv2d(4, 4, 3)
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    layer(_input("Conv2d")).sum().backward()
    assert seen == ["before", "after", "backward"]
