"""Small graphs in which something lies or is read in an unusual way: three calls, compared bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import outstride
from tests.fuzz.graphs.tracing import traced
from tests.tolerance import assert_equal_values, assert_same_bits


class Function(nn.Module):
    """Layers, and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.layers, *inputs)


def assert_as_accelerated(model: nn.Module, *inputs: Tensor) -> None:
    """Bits and strides of the accelerated model, of the first call and of those that have an arena."""
    model.eval()
    served = outstride.accelerate(copy.deepcopy(model))
    with torch.no_grad():
        fast = traced(model, inputs)
        for time in range(3):
            given = [x * (time + 1) for x in inputs]
            found, expected = (pytree.tree_leaves(run(*given)) for run in (fast, served))
            assert len(found) == len(expected)
            for x, y in zip(found, expected, strict=True):
                if x.is_floating_point():
                    assert_same_bits(x, y, f"call {time + 1}")
                else:
                    assert_equal_values(x, y, f"call {time + 1}")
                assert x.stride() == y.stride(), f"call {time + 1}: {x.stride()} is not {y.stride()}"


def conv(inputs: int = 4, outputs: int = 4, kernel: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def norm(channels: int, rank: int = 2) -> nn.Module:
    made: nn.Module = (nn.BatchNorm1d if rank == 1 else nn.BatchNorm2d)(channels)
    for _, tensor in (*made.named_parameters(), *made.named_buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2.0)
    return made


X = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def test_bits_read_as_those_of_another_type() -> None:
    """A view may change the type and nothing else."""
    assert_as_accelerated(Function(lambda c, x: c(x).view(torch.int32).bitwise_and(-65536), conv()), X)
    assert_as_accelerated(
        Function(lambda c, x: c(x.view(torch.int32).bitwise_and(-65536).view(torch.float32)), conv()), X
    )


@pytest.mark.parametrize("layer", [nn.PixelShuffle(2), nn.PixelUnshuffle(2)])
@pytest.mark.parametrize("shape", [(4, 6, 4), (2, 3, 4, 6, 4)])
def test_pixels_of_other_batches_than_one_axis(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert_as_accelerated(Function(lambda shuffle, x: torch.relu(shuffle(x)), layer), torch.randn(shape))


def test_a_batch_norm_of_what_lies_neither_in_order_nor_channels_last() -> None:
    assert_as_accelerated(Function(lambda b, x: b(x.permute(0, 2, 1)), norm(9, 1)), torch.randn(2, 5, 9))
    assert_as_accelerated(Function(lambda b, x: b(x.permute(0, 3, 2, 1)), norm(5)), X)


def test_a_sum_lies_as_the_first_of_its_tensors() -> None:
    """A step on the second one would leave it as that lies."""
    last = X.contiguous(memory_format=torch.channels_last)
    assert_as_accelerated(Function(lambda c, x, y: x + c(y), conv()), last, X)
    assert_as_accelerated(Function(lambda c, x, y: c(y) + x, conv()), last, X)
    assert_as_accelerated(Function(lambda n, x: x + n(x), nn.InstanceNorm2d(4)), last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_batch_norms_of_narrow_types(dtype: torch.dtype) -> None:
    model = Function(lambda c, n, x: n(c(x)), nn.Conv2d(16, 16, 1, groups=16), norm(16)).to(dtype)
    assert_as_accelerated(model, torch.randn(1, 16, 64, 64).to(dtype))


def test_the_mean_of_a_number_and_the_norm_of_no_images() -> None:
    assert_as_accelerated(Function(lambda c, x: c(x).sum().mean((0,)), conv()), X)
    assert_as_accelerated(Function(lambda n, x: n(x), nn.GroupNorm(4, 4, affine=False)), X[:0])


def test_joined_tensors_of_two_types() -> None:
    """One that is narrower than the result cannot be made in its place."""
    narrow = conv().to(torch.bfloat16)
    for order in (1, -1):
        parts = Function(
            lambda c, d, x, order=order: (
                torch.cat([torch.relu(c(x.to(torch.bfloat16))), torch.relu(d(x))][::order], 1) * 2
            ),
            narrow, conv(),
        )  # fmt: skip
        assert_as_accelerated(parts, X)


def test_a_layer_whose_weight_is_its_input() -> None:
    """The step before it is not done where it reads its input alone."""

    def own(x: Tensor) -> Tensor:
        y = torch.relu(x)
        return outstride.functional.conv2d(y, y, padding=1)

    assert_as_accelerated(Function(own), torch.randn(4, 4, 3, 3))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.0, 1e30])
def test_numbers_of_every_kind(number: float) -> None:
    assert_as_accelerated(Function(lambda c, x: torch.clamp(c(x) * number + 1, number, 3.0), conv()), X)
    assert_as_accelerated(Function(lambda c, x: nn.functional.leaky_relu(c(x) / number, number), conv()), X)


def test_results_that_are_inputs_constants_and_parts_of_each_other() -> None:
    def several(layer: nn.Module, x: Tensor) -> Any:
        a = torch.relu(layer(x))
        return a, x, a[:, 1:], x.view(-1), torch.ones(3), a, torch.cat([a, a], 1), a.unbind(1)

    assert_as_accelerated(Function(several, conv()), X)


def test_joined_tensors_that_are_read_again() -> None:
    def dense(c: nn.Module, d: nn.Module, x: Tensor) -> Any:
        a, b = c(x), torch.relu(d(x))
        whole = torch.cat([b, torch.cat([a, b], 1), a[:, :2], a], 1)
        return whole.sum(1, keepdim=True) + a * b

    assert_as_accelerated(Function(dense, conv(), conv()), X)
    assert_as_accelerated(Function(dense, conv(), conv()), X.contiguous(memory_format=torch.channels_last))


def test_what_writes_to_parts_of_a_value() -> None:
    def written(c: nn.Module, x: Tensor) -> Any:
        a = torch.relu(c(x))
        part = a[:, 1:3]
        part.mul_(2)
        a[:, 0] = 7
        a.view(1, 2, 2, 6, 5).add_(1)
        return a + c(a), part

    assert_as_accelerated(Function(written, conv()), X)


def test_pictures_of_bytes() -> None:
    """Numbers that are whole before a division."""
    assert_as_accelerated(
        Function(lambda c, x: torch.relu(c((x.abs() * 99).to(torch.uint8) / 255)), conv()), X
    )


def test_a_norm_of_one_image_that_lies_across() -> None:
    """It is a batch norm of the input, which torch does not make contiguous first."""
    torch.manual_seed(0)
    assert_as_accelerated(
        Function(lambda n, x: n(x.transpose(1, 2)), nn.BatchNorm1d(12, track_running_stats=False)),
        torch.randn(1, 33, 12),
    )
    last = torch.randn(1, 4, 33, 17).contiguous(memory_format=torch.channels_last)
    assert_as_accelerated(Function(lambda n, x: n(x), nn.BatchNorm2d(4, track_running_stats=False)), last)
    assert_as_accelerated(Function(lambda n, x: torch.relu(n(x)), nn.InstanceNorm2d(4)), last)


def _attended(linear: nn.Module, x: Tensor) -> Tensor:
    """A linear layer of pixels beside their image, whose axis of images then has the stride of another."""
    rows: Tensor = linear(x.flatten(2).transpose(1, 2))
    return (rows.transpose(1, 2).reshape(x.shape) + x) / 1.5


def _of_rows(convolution: nn.Module, x: Tensor) -> Tensor:
    """What the tracer takes for a view of an image in channels_last, and is none."""
    made: Tensor = convolution(x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2).unflatten(2, x.shape[2:]))
    return made


@pytest.mark.parametrize("behind", [lambda c, x: c(F.relu(x)), _of_rows], ids=["relu", "rows"])
def test_one_image_that_torch_does_not_take_for_channels_last(behind: Callable[..., Tensor]) -> None:
    """The tracer does, by its sizes: a norm copies it first, and so do those in graphs and gradients."""
    torch.manual_seed(0)
    layers = nn.Linear(16, 16), nn.GroupNorm(4, 16), nn.Conv2d(16, 8, 3)
    model = Function(lambda a, n, c, x: behind(c, n(_attended(a, x))), *layers)
    assert_as_accelerated(model, torch.randn(1, 16, 6, 7))
    torch._dynamo.reset()
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    x = torch.randn(1, 16, 6, 7, requires_grad=True)
    made, expected = fast(x), served(x)
    assert_same_bits(made.detach(), expected.detach())
    gradient = torch.randn_like(expected)
    given = (x, *model.parameters())
    found, wanted = (torch.autograd.grad(y, given, gradient) for y in (made, expected))
    for a, b in zip(found, wanted, strict=True):
        assert_same_bits(a, b)
