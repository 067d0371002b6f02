"""The matrix of a layer in compressed sparse rows, by index arithmetic on whole arrays."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from outstride import geometry
from outstride.linear.layer_map import LayerMap

Array = npt.NDArray[Any]


def to_csr(layer_map: LayerMap) -> Any:
    """Write a layer as a matrix.

    The convolution's entry at row (oc, oh) and column (ic, ih) is the sum of weight[oc, ic, kh] over the taps
    kh with which output oh reads input ih; with zero padding that is at most one. A transposed layer is the
    transpose of the convolution on the same geometry. Entries are stored where a tap reads, weights of zero
    included, so the pattern is the geometry's alone.
    """
    transposed = layer_map.transposed
    matrix = _of_convolution(
        layer_map,
        ins=layer_map.output_size if transposed else layer_map.input_size,
        outs=layer_map.input_size if transposed else layer_map.output_size,
    )
    return sparse.csr_array(matrix.T) if transposed else matrix


def _of_convolution(layer_map: LayerMap, ins: tuple[int, ...], outs: tuple[int, ...]) -> Any:
    spec = layer_map.spec
    weight = layer_map.weight.numpy()
    out_channels, per_group = weight.shape[:2]
    in_channels = per_group * spec.groups
    source, read = _taps(layer_map, ins, outs)
    # One row of outputs for each position; its entries in the order input channel, tap, which for zero
    # padding is that of the columns.
    shape = (len(source), per_group, source.shape[1])
    size, index = prod(ins), _index_type(out_channels * int(read.sum()) * per_group, in_channels * prod(ins))
    channel = np.arange(per_group, dtype=index)[:, None]
    mask = np.broadcast_to(read[:, None, :], shape)
    columns = (source.astype(index)[:, None, :] + channel * index(size))[mask]
    entry = np.arange(per_group * shape[2], dtype=index).reshape(per_group, shape[2])
    entries = np.broadcast_to(entry, shape)[mask]
    data = np.empty((out_channels, len(columns)), weight.dtype)
    indices = np.empty((out_channels, len(columns)), index)
    per_output_group = out_channels // spec.groups
    for oc in range(out_channels):
        np.take(weight[oc].reshape(-1), entries, out=data[oc])
        np.add(columns, index(oc // per_output_group * per_group * size), out=indices[oc])
    lengths = np.tile(read.sum(1) * per_group, out_channels)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(index)
    whole = (out_channels * prod(outs), in_channels * size)
    matrix = sparse.csr_array((data.reshape(-1), indices.reshape(-1), ends), shape=whole)
    # A border of another mode reads inputs again, which the taps inside it read as well.
    matrix.sum_duplicates()
    return matrix


def _taps(layer_map: LayerMap, ins: tuple[int, ...], outs: tuple[int, ...]) -> tuple[Array, Array]:
    """For every output position and tap the flat input position, and whether there is one."""
    spec = layer_map.spec
    nd = spec.nd
    source: Array = np.zeros((1,) * (2 * nd), np.int64)
    read: Array = np.ones((1,) * (2 * nd), bool)
    for a in range(nd):
        start = np.arange(outs[a])[:, None] * spec.stride[a] - layer_map.pairs[a][0]
        at = _sources(start + np.arange(spec.kernel_size[a]) * spec.dilation[a], ins[a], spec.padding_mode)
        spread = [1] * (2 * nd)
        spread[a], spread[nd + a] = at.shape
        at = at.reshape(spread)
        source, read = source + at * prod(ins[a + 1 :]), read & (at >= 0)
    flat = (prod(outs), prod(spec.kernel_size))
    return source.reshape(flat), read.reshape(flat)


def _sources(positions: Array, size: int, mode: str) -> Array:
    """``source_index`` of every position, -1 for none."""
    first, last = min(0, int(positions.min())), max(size - 1, int(positions.max()))
    border = [*range(first, 0), *range(size, last + 1)]
    table = np.arange(first, last + 1)
    for position in border:
        found = geometry.source_index(position, size, mode)
        table[position - first] = -1 if found is None else found
    sources: Array = table[positions - first]
    return sources


def _index_type(*most: int) -> Any:
    return np.int32 if max(most) <= np.iinfo(np.int32).max else np.int64
