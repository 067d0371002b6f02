"""``dask``: the same tiles as tasks of a Dask graph, each reading its own part of the input."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from outstride.errors import ArgumentError, UnsupportedError
from outstride.models.isolation import undisturbed
from outstride.tiling import arrays
from outstride.tiling.box import Box, shape_of, whole, within
from outstride.tiling.capturing import served_graph
from outstride.tiling.evaluation import Program
from outstride.tiling.running import TileRun, check_model
from outstride.tiling.surroundings import Surroundings

_MOST_PROGRAMS = 8
_capturing = Lock()
_programs: dict[str, Program] = {}
"""The programs of this process, by the token of their call of ``dask``."""


def dask(
    model: torch.nn.Module,
    array: Any,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
) -> Any:
    """The result of a model as a lazy Dask array, a chunk for each tile, with exactly the bits of the whole.

    Args:
        model: any module in inference mode that returns one tensor; it is sent to the workers.
        array: a Dask array of the shape that the model takes, (N, C, *size), or an array or tensor that one
            is made of.
        tile: size of a chunk on the last axes of the result; by default the largest that fits.
        memory: bytes that a tile's tensors may take on a worker.

    Returns:
        A ``dask.array.Array``. Each chunk reads the part of the input that it needs, and nothing else.

    Raises:
        ArgumentError: ``tile`` or ``memory`` does not fit, or a layer is in training mode.
        UnsupportedError: Dask is not installed, the model returns several tensors, or it needs every pixel.

    Example:
        >>> model = torch.nn.Conv2d(3, 8, 3, padding=1)
        >>> lazy = dask(model, np.zeros((1, 3, 512, 512), "float32"), tile=256)
        >>> lazy.shape, lazy.chunksize
        ((1, 8, 512, 512), (1, 8, 256, 256))
    """
    if find_spec("dask") is None or find_spec("dask.array") is None:
        raise UnsupportedError("lazy arrays need Dask: pip install 'outstride[tiling]'.")
    import dask.array as da
    from dask.delayed import delayed

    check_model(model)
    if not isinstance(array, da.Array):
        arrays.check_source(array, "array", paths="")
        if isinstance(array, torch.Tensor):
            arrays.numpy_dtype(array.dtype, "array")
            array = array.detach().cpu().numpy()
        array = da.from_array(array)
    if any(np.isnan(n) for n in array.shape):
        raise ArgumentError(
            f"'array' must have a known shape: got {array.shape}; legal: array.compute_chunk_sizes()"
        )
    run = TileRun(model, array, tile, memory)
    output = run.program.graph.only_output("run on a cluster")
    node = run.program.graph.nodes[output]
    if run.program.wholes:
        names = sorted({run.program.graph.nodes[index].name for index in run.program.wholes})
        raise UnsupportedError(
            f"'model' must not need every pixel to be run on a cluster: got {', '.join(names)}; "
            "legal: tile_run, which goes over the whole in passes first"
        )
    token, shared = uuid4().hex, delayed(model, pure=False, traverse=False)
    here = Surroundings.now()
    dtype, make = arrays.numpy_dtype(node.dtype), delayed(_tile, pure=False)
    shape = node.shape
    chunks: dict[tuple[int, ...], Any] = {}
    for box in run.plan.boxes():
        need = run.program.need(output, box)
        part = array[tuple(slice(a, b) for a, b in need.boxes[0])] if 0 in need.boxes else array[:0]
        made = make(token, here, shared, tuple(array.shape), run.dtype, box, part)
        chunks[tuple(a for a, _ in box)] = da.from_delayed(made, shape_of(box), dtype)
    return da.block(_nested(chunks, len(shape)))


def _nested(chunks: dict[tuple[int, ...], Any], rank: int) -> Any:
    """Chunks by their first elements as lists of lists, an axis a level."""
    if rank == 0:
        return chunks[()]
    starts = sorted({key[0] for key in chunks})
    return [
        _nested({key[1:]: chunk for key, chunk in chunks.items() if key[0] == start}, rank - 1)
        for start in starts
    ]


def _tile(
    token: str, surroundings: Surroundings, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype,
    box: Box, part: Any,
) -> Any:  # fmt: skip
    """One chunk, on a worker, which captures the model once and computes as the process that calls would."""
    with surroundings.entered(), undisturbed():
        with _capturing:  # torch's tracer is one for all threads
            program = _programs.get(token)
            if program is None:
                if len(_programs) >= _MOST_PROGRAMS:
                    _programs.clear()
                program = _programs[token] = Program(served_graph(model, shape, dtype))
        need = program.need(program.graph.outputs[0], box)
        held = np.asarray(part)

        def read(box: Box) -> torch.Tensor:
            return arrays.read(held[within(box, need.boxes[0])], whole(shape_of(box)), dtype)

        return program.run(need, read).numpy()
