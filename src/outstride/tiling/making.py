"""``tile_run``: a result made tile by tile, in arrays, as files or at addresses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from outstride.tiling.results.asking import Boxes, Options
from outstride.tiling.results.batches import make_each
from outstride.tiling.results.single import make
from outstride.tiling.running import Runs, check_model


def tile_run(
    model: torch.nn.Module,
    source: Any,
    out: Any = None,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    progress: bool = True,
    overwrite: bool = False,
    output_range: tuple[float, float] | None = None,
    resume: bool | None = None,
    only: Boxes | None = None,
    scratch: str | Path | None = None,
    output_bits: int | None = None,
    ngff_version: str | None = None,
) -> Any:
    """Run a model on an input larger than memory, tile by tile, with exactly the result of the whole.

    Args:
        model: any module in inference mode that returns a tensor, or a nest of several. Convolutions are
            computed by this package, as in ``accelerate(model)``.
        source: the whole input as the model takes it, (N, C, *size) or (C, *size): a tensor, an array, a
            memory map, a zarr array, the path of a file, the address of a .zarr, or a ``File``, which says
            what of it. Of a model with several inputs a tuple of its arguments, (x, y), or a dict by their
            names, with lists, tuples and dicts inside where it takes such; numbers are handed over. Inputs
            as large as the picture, or smaller by some factor, are read by boxes, small ones whole; bool,
            int32 and int64 keep their type. A list are sources of any sizes, run one after the other, each
            size planned once. A picture is read as (1, C, H, W), integers from 0 to 1 as by torchvision's
            ``to_tensor``, and a sound as (1, C, L), integers from -1 to 1; an array without channels has one.
        out: where the result goes: an array of its shape, the path of a file that is made, or the address
            of a .zarr; of several tensors a list of such, in the model's order, or a path with {} where
            the name of each comes, "y.{}.npy"; of a list of sources a list of what each takes. By default
            arrays in memory, tensors if the source is one. Results beyond 0 to 1 are scaled for a .png or
            .jpg, the lowest black and the highest white, with a warning; a sound has the source's rate times
            the model's.
        tile: size of a tile on the last axes of the result; by default the largest within ``memory``, or a
            smaller one that stays in the caches, if little is computed twice.
        memory: bytes that a tile's tensors may take, 2000000000 or "2GB"; by default a quarter of what is
            free.
        progress: show a bar while it runs, if the error stream is a terminal.
        overwrite: replace the file at ``out`` if there is one.
        output_range: the numbers that become 0 and 255 in a file of bytes; what lies beyond is cut off.
        output_bits: 16 for a file of 16 bits instead, 0 and 65535.
        ngff_version: "0.4" for an OME-Zarr of zarr's format 2, which older readers open; by default "0.5".
        resume: what happens where an earlier call for this file was ended before it was whole: by default it
            is gone on with, if all is as it was. True: there must be one. False: it is thrown away.
        only: boxes of the last axes of the result, of several the finest, ((0, 512), (1024, 2048)) each: no
            tiles but those that have a part in one of them. A file has its name once all of its tiles are
            made, whatever calls have made them.
        scratch: a folder for maps that passes keep and that ``memory`` does not hold; by default that of
            temporary files. Nothing is left in it.

    Returns:
        ``out``, filled: every bit is that of ``accelerate(model)(whole)``.

    Raises:
        ArgumentError: ``tile``, ``memory``, ``scratch`` or ``out`` does not fit, ``out`` exists or is the
            source, a file cannot be read or written, what was begun belongs to something else, or a layer is
            in training mode.
        ShapeError: the model refuses the source's shape, or no tile fits into ``memory``.
        UnsupportedError: the model decides by the numbers it sees.

    Law: a tile is the whole (4). The input that a tile needs is found layer by layer, each layer's own
    padding stays at the border of the image, and no sum is reordered: a layer that takes short algorithms is
    computed from the beginning of a cell of outputs that share products. Torch computes functions such as
    gelu and softmax by two routines, depending on where an element lies in the whole and among the threads:
    each element goes through the one that it would. Convolutions that a model's own code calls are computed
    here, too, where torch would round them differently from size to size.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
        >>> tile_run(model, torch.zeros(1, 3, 100, 70), tile=32).shape
        torch.Size([1, 8, 100, 70])
    """
    check_model(model)
    runs = Runs(model, tile, memory, scratch)
    options = Options(progress, overwrite, output_range, output_bits, resume, only, ngff_version)
    if not isinstance(source, list):
        outcome = make(runs, source, out, options)
        for note in outcome.notes:
            warnings.warn(f"{out}: {note}", stacklevel=2)
        return outcome.out
    made = []
    for place, one in make_each(runs, source, out, options):
        for note in one.notes:
            warnings.warn(f"{place}: {note}", stacklevel=2)
        made.append(one.out)
    return made if out is None else out
