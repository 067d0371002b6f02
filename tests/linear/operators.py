"""Operators of the cases, and their matrices by the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from outstride import ConvOperator, ConvSpec, geometry, reference
from tests.cases import Case
from tests.operands import draw


def spec_of(case: Case) -> ConvSpec:
    return ConvSpec(
        "conv_transpose" if case.transposed else "conv",
        case.kernel_size,
        case.stride,
        case.padding,
        case.dilation,
        case.output_padding,
        case.groups,
        case.padding_mode,
    )


def operator_of(case: Case, values: str, dtype: torch.dtype) -> ConvOperator:
    operands = draw(case, values, dtype)
    return ConvOperator(
        spec_of(case),
        case.input_size,
        weight=operands.weight,
        bias=operands.bias,
        output_size=case.output_size,
    )


def dense(case: Case) -> np.ndarray:
    """The definition's matrix of a case with integer weights, rows its outputs."""
    weight = draw(case, "integers").weight.numpy().astype(np.int64)
    ins = case.out_spatial if case.transposed else case.input_size
    W: np.ndarray = reference.kernel2matrix(
        weight, ins, case.stride, case.pads, case.dilation, case.groups, padding_mode=case.padding_mode
    )
    if not case.transposed:
        return W
    # An output_padding beyond the stride lets the convolution take steps that the transposed layer has not.
    conv = ConvSpec(
        "conv", case.kernel_size, case.stride, case.pads, case.dilation, padding_mode=case.padding_mode
    )
    steps = geometry.output_size(conv, ins)
    kept = tuple(slice(n) for n in case.input_size)
    index = (slice(None), *kept)
    rows: np.ndarray = W.reshape(case.in_channels, *steps, -1)[index].reshape(-1, W.shape[1]).T
    return rows


def columns_of(array: Any) -> np.ndarray:
    """(N, C, *size) -> one column for each of the batch."""
    values: np.ndarray = np.asarray(array)
    flat: np.ndarray = values.reshape(len(values), -1).T
    return flat


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def gaussian(size: int, sigma: float) -> np.ndarray:
    row = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    square: np.ndarray = np.outer(row, row)[None, None] / row.sum() ** 2
    return square
