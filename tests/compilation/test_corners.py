"""Small graphs in which something lies or is read in an unusual way: three calls, compared bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
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
