"""``reference.kernel2matrix`` against the engine: W x is the layer, W^T y its transposed one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from outstride import functional, geometry, reference
from outstride.errors import ShapeError
from outstride.layer.spec import ConvSpec
from tests.cases import CASES, Case
from tests.operands import apply, draw
from tests.tolerance import assert_equal_values, assert_integers_equal

_CASES = [c for c in CASES if c.batch and c.batched]


@pytest.mark.parametrize("case", _CASES, ids=[c.id for c in _CASES])
def test_the_matrix_is_the_layer(case: Case) -> None:
    operands = draw(case, "integers", torch.float32)
    layer = apply(case, operands.input, operands.weight, None)
    x, weight = (t.numpy().astype(np.int64) for t in (operands.input, operands.weight))
    ins = case.out_spatial if case.transposed else case.input_size
    W = reference.kernel2matrix(
        weight, ins, case.stride, case.pads, case.dilation, case.groups, padding_mode=case.padding_mode
    )
    rows, columns = x.reshape(case.batch, -1), layer.reshape(case.batch, -1)
    if not case.transposed:
        assert W.shape == (columns.shape[1], rows.shape[1])
        assert_integers_equal(columns, rows @ W.T, torch.float32)
        return
    # An output_padding beyond the stride lets the convolution take steps that the transposed layer has not.
    mode = case.padding_mode
    conv = ConvSpec("conv", case.kernel_size, case.stride, case.pads, case.dilation, padding_mode=mode)
    steps = geometry.output_size(conv, ins)
    kept = (slice(None), *(slice(n) for n in case.input_size))
    T = W.reshape(case.in_channels, *steps, -1)[kept].reshape(rows.shape[1], -1)
    assert_integers_equal(columns, rows @ T, torch.float32)


def test_a_kernel_stands_for_one_channel() -> None:
    K = np.arange(1, 5).reshape(2, 2)
    W = reference.kernel2matrix(K, (3, 3))
    assert_equal_values(reference.kernel2matrix(K[None, None], (3, 3)), W)
    x = torch.arange(9.0)
    found = functional.conv2d(x.view(1, 1, 3, 3), torch.from_numpy(K[None, None]).float())
    assert (W @ x.long().numpy()).tolist() == found.flatten().tolist() == [27, 37, 57, 67]


@pytest.mark.parametrize(
    ("shape", "size", "groups", "legal"),
    [
        ((2, 2), (3, 3, 3), 1, "3 axes, or 5 with channels"),
        ((2, 2, 2, 2), 4, 1, "one to three axes"),
        ((2, 2), (4, 4), 2, "2 axes, or 4 with channels"),
    ],
)
def test_what_is_neither_kernel_nor_weight_is_refused(
    shape: tuple[int, ...], size: tuple[int, ...], groups: int, legal: str
) -> None:
    with pytest.raises(ShapeError, match=f"'K' must be a kernel of the input's axes.*legal: {legal}$"):
        reference.kernel2matrix(np.zeros(shape), size, groups=groups)
