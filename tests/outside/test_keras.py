"""Keras's NumPy references, which ship in its wheel, against `padding="same"` and "valid" here.

TensorFlow's rule for "same" at strides beyond 1 is what Keras computes; PyTorch has no answer of its own.
Keras keeps channels last and its kernels as (*kernel_size, in, out), transposed as (*kernel_size, out, in).
Its transposed reference is not asked about dilation: with "same" it returns arrays without elements there.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch

from outstride import functional, reference
from tests.tolerance import assert_close_to_reference

pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")

Sizes = tuple[int, ...]
_GRID = {
    1: tuple(product(((3,), (8,)), ((1,), (2,), (3,), (4,)), ((1,), (2,), (3,), (4,)))),
    2: tuple(product(((4, 7), (5, 6)), ((2, 3), (3, 4), (1, 5)), ((1, 1), (2, 3), (3, 2)))),
    3: tuple(product(((3, 4, 5),), ((2, 3, 1), (3, 3, 3)), ((1, 1, 1), (2, 1, 3)))),
}
_LAYERS = [(nd, *row) for nd, rows in _GRID.items() for row in rows]
_every_layer = pytest.mark.parametrize(
    ("nd", "size", "kernel_size", "stride"), _LAYERS, ids=["-".join(map(str, row)) for row in _LAYERS]
)


def _keras(module: str, function: str) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read on the first import; else it looks for TensorFlow
    return getattr(import_module(f"keras.src.layers.convolutional.{module}"), function)


def _drawn(seed: Sizes, *shapes: Sizes) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@_every_layer
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("groups", [1, 2])
def test_keras_conv(
    nd: int, size: Sizes, kernel_size: Sizes, stride: Sizes, padding: str, groups: int
) -> None:
    if padding == "valid" and any(k > i for k, i in zip(kernel_size, size, strict=True)):
        pytest.skip("the kernel does not fit, Keras refuses it too")
    x, w, b = _drawn((*size, *kernel_size), (2, *size, 4), (*kernel_size, 4 // groups, 6), (6,))
    call = _keras("conv_test", f"np_conv{nd}d")
    expected = call(x, w, b, stride, padding, "channels_last", (1,) * nd, groups)
    ours = (np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1)), b)
    _compare("conv", nd, ours, expected, stride=stride, padding=padding, groups=groups)


@_every_layer
def test_keras_conv_same_with_dilation(nd: int, size: Sizes, kernel_size: Sizes, stride: Sizes) -> None:
    x, w, b = _drawn((*size, *kernel_size), (2, *size, 3), (*kernel_size, 3, 2), (2,))
    dilation = tuple(1 + (axis + k) % 2 for axis, k in enumerate(kernel_size))
    call = _keras("conv_test", f"np_conv{nd}d")
    expected = call(x, w, b, stride, "same", "channels_last", dilation, 1)
    ours = (np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1)), b)
    _compare("conv", nd, ours, expected, stride=stride, padding="same", dilation=dilation)


@_every_layer
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_keras_conv_transpose(nd: int, size: Sizes, kernel_size: Sizes, stride: Sizes, padding: str) -> None:
    x, w, b = _drawn((*size, *kernel_size), (2, *size, 3), (*kernel_size, 2, 3), (2,))
    call = _keras("conv_transpose_test", f"np_conv{nd}d_transpose")
    expected = call(x, w, b, stride, padding, None, "channels_last", (1,) * nd)
    ours = (np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1)), b)
    # Keras gives a kernel that is shorter than the stride the room of a whole stride, so the size is said
    options: dict[str, Any] = {"padding": padding, "stride": stride}
    if padding == "valid":
        options["output_size"] = expected.shape[1:-1]
    _compare("conv_transpose", nd, ours, expected, **options)


@_every_layer
def test_keras_conv_transpose_with_output_padding(
    nd: int, size: Sizes, kernel_size: Sizes, stride: Sizes
) -> None:
    x, w, b = _drawn((*size, *kernel_size), (2, *size, 3), (*kernel_size, 2, 3), (2,))
    call = _keras("conv_transpose_test", f"np_conv{nd}d_transpose")
    ours = (np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1)), b)
    for output_padding in {tuple(s - 1 for s in stride), tuple(s // 2 for s in stride)}:
        expected = call(x, w, b, stride, "valid", output_padding, "channels_last", (1,) * nd)
        _compare("conv_transpose", nd, ours, expected, stride=stride, output_padding=output_padding)


def _compare(
    operator: str,
    nd: int,
    operands: tuple[np.ndarray, np.ndarray, np.ndarray],
    expected: np.ndarray,
    **options: Any,
) -> None:
    x, w, b = operands
    result = getattr(functional, f"{operator}{nd}d")(_tensor(x), _tensor(w), _tensor(b), **options)
    magnitude = getattr(reference, operator)(np.abs(x), np.abs(w), np.abs(b), **options)
    terms = x.shape[1] * prod(w.shape[2:])
    truth = np.moveaxis(expected, -1, 1)
    assert_close_to_reference(result, truth, magnitude, terms, torch.float64, f"{operator} {options}")
