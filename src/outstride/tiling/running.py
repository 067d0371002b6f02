"""``tile_run``: a model on an input of any size, tile by tile, with the bits of the whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.models.isolation import undisturbed
from outstride.models.node import Node
from outstride.models.operators import norms, pointwise, recurrent
from outstride.tiling import arrays, files
from outstride.tiling.addresses import check as check_address
from outstride.tiling.addresses import is_address
from outstride.tiling.apart import check_apart
from outstride.tiling.box import Box, elements
from outstride.tiling.budget import budget_of
from outstride.tiling.capturing import served_graph
from outstride.tiling.evaluation import Program
from outstride.tiling.lengths import rate_of
from outstride.tiling.loops import check_steps
from outstride.tiling.outputs import Outputs
from outstride.tiling.passes.scheduling import Scheduler
from outstride.tiling.passes.walk import Walk
from outstride.tiling.passes.walking import check_room, scratch_folder, walked
from outstride.tiling.planning import TilePlan, plan_tiles
from outstride.tiling.quiet import TRIALS, silent

#: Eight bytes each, a tensor of them has a size that torch can count.
_MOST_ELEMENTS = 2**60 - 1


class TileRun:
    """A model made ready for one source: its plan, and what runs it."""

    @undisturbed()
    def __init__(
        self, model: torch.nn.Module, source: Any, tile: int | Sequence[int] | None = None,
        memory: int | str | None = None, out: Any = None, scratch: str | Path | None = None,
    ) -> None:  # fmt: skip
        check_model(model)
        arrays.check_source(source)
        self.scratch = scratch_folder(scratch)
        self.source, self.dtype = source, dtype_of(model, source)
        if any(isinstance(module, recurrent.LAYER) for module in model.modules()):
            check_steps(model, source.shape, self.dtype, "run in tiles")
        strides = arrays.strides_of(source, self.dtype)
        with silent(TRIALS):
            self.program = Program(served_graph(model, source.shape, self.dtype, strides))
        axes = spatial_axes(model, source.shape)
        self.outputs = Outputs.of(self.program.graph, axes)
        self.output = self.outputs.main
        budget = budget_of(memory)
        self.schedule = Scheduler(self.program, self.outputs.indices, budget).schedule()
        self.plan: TilePlan = plan_tiles(
            self.program, self.outputs, self.schedule, tile, budget, chunks_of(out, axes)
        )

    def nodes(self) -> dict[int, Node]:
        """The tensors that the model returns."""
        return {index: self.program.graph.nodes[index] for index in self.outputs.indices}

    @undisturbed()
    def __call__(self, out: Any, progress: bool) -> Any:
        """Fill ``out``, or arrays made for it, and return it."""
        targets = self.outputs.targets(out)
        for index, node in self.nodes().items():
            if targets[index] is None:
                targets[index] = arrays.made_for(self.source, node.shape, node.dtype)
            else:
                arrays.check_target(targets[index], node.shape, node.dtype)
        check_room(self.schedule, self.scratch)
        shown = partial(_shown_slabs, progress)
        with walked(self.program, self.schedule, self._read, self.scratch, shown):
            for box in _shown(self.plan, progress):
                boxes = self.outputs.boxes(box)
                made = self.program.run_all(self.program.needs(boxes), self._read)
                for index, part in boxes.items():
                    if elements(part):
                        arrays.write(targets[index], part, made[index])
        return self.outputs.wrapped(targets) if out is None else out

    def _read(self, box: Any) -> torch.Tensor:
        return arrays.read(self.source, box, self.dtype)


def _shown(plan: TilePlan, progress: bool) -> Any:
    """The tiles, with a bar on the error stream where there is more than one and somebody looks."""
    if not progress or len(plan) < 2:
        return plan.boxes()
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        plan.boxes(), f"{len(plan)} tiles", total=len(plan), console=console, disable=not console.is_terminal
    )


def _shown_slabs(progress: bool, walk: Walk) -> Iterable[Box]:
    """The slabs of a pass, with a bar that goes away."""
    if not progress or len(walk) < 2:
        return walk.boxes()
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    said = f"{len(walk)} slabs for {', '.join(walk.names)}"
    hidden = not console.is_terminal
    return track(walk.boxes(), said, total=len(walk), console=console, transient=True, disable=hidden)


def check_model(model: Any) -> None:
    """Refuse what is no model, or one that would do something else at every call.

    Raises:
        ArgumentError: no module, or one with layers in training mode that work otherwise there.
    """
    if not isinstance(model, torch.nn.Module):
        raise ArgumentError(f"'model' must be a torch.nn.Module: got {type(model).__name__}; legal: a module")
    for name, module in model.named_modules():
        if module.training and isinstance(module, (norms.BATCH_FAMILY, pointwise.DROPOUT_FAMILY)):
            raise ArgumentError(
                f"'model' must be in inference mode: got {name or type(module).__name__!r} in training mode; "
                "legal: model.eval()"
            )


def chunks_of(out: Any, axes: int) -> tuple[int, ...] | None:
    """Sizes in which a result is stored, for tiles that are multiples: else chunks are written twice."""
    if isinstance(out, (str, Path)):
        return (files.CHUNK,) * axes if Path(out).suffix.lower() == ".zarr" else None
    chunks = getattr(out, "shards", None) or getattr(out, "chunks", None)
    return tuple(chunks[-axes:]) if isinstance(chunks, tuple) else None


def dtype_of(model: torch.nn.Module, source: Any) -> torch.dtype:
    """The type in which a model computes: that of its weights, without any that of a floating source."""
    for tensor in model.parameters():
        if tensor.dtype.is_floating_point:
            return tensor.dtype
    if isinstance(source, torch.Tensor) and source.dtype.is_floating_point:
        return source.dtype
    return torch.float64 if str(getattr(source, "dtype", "")) == "float64" else torch.float32


def spatial_axes(model: torch.nn.Module, shape: Sequence[int]) -> int:
    """How many of the last axes are cut: those that the convolutions slide along."""
    for module in model.modules():
        for nd in (1, 2, 3):
            if type(module).__name__.endswith(f"{nd}d") and len(shape) > nd:
                return nd
    return max(len(shape) - 2, 1)


def tile_run(
    model: torch.nn.Module,
    source: Any,
    out: Any = None,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    progress: bool = True,
    overwrite: bool = False,
    scratch: str | Path | None = None,
) -> Any:
    """Run a model on an input larger than memory, tile by tile, with exactly the result of the whole.

    Args:
        model: any module in inference mode that returns one tensor. Convolutions are computed by this
            package, as in ``accelerate(model)``.
        source: the whole input as the model takes it, (N, C, *size) or (C, *size): a tensor, an array, a
            memory map, a zarr array, or the path of a .npy, .zarr, TIFF, PNG or WAV file. A picture is read
            as (1, C, H, W), integers from 0 to 1 as by torchvision's ``to_tensor``, and a sound as (1, C, L),
            integers from -1 to 1.
        out: where the result goes: an array of its shape, or the path of a file that is made. By default an
            array in memory, a tensor if the source is one. Results beyond 0 to 1 are scaled for a .png, the
            lowest black and the highest white, with a warning; a .wav has the source's rate times the
            model's.
        tile: size of a tile on the last axes of the result; by default the largest within ``memory``, or a
            smaller one that stays in the caches, if little is computed twice.
        memory: bytes that a tile's tensors may take, 2000000000 or "2GB"; by default a quarter of what is
            free.
        progress: show a bar while it runs, if the error stream is a terminal.
        overwrite: replace the file at ``out`` if there is one.
        scratch: a folder for maps that passes keep and that ``memory`` does not hold; by default that of
            temporary files. Nothing is left in it.

    Returns:
        ``out``, filled: every bit is that of ``accelerate(model)(whole)``.

    Raises:
        ArgumentError: ``tile``, ``memory``, ``scratch`` or ``out`` does not fit, ``out`` exists or is the
            source, a file cannot be read or written, or a layer is in training mode.
        ShapeError: the model refuses the source's shape, or no tile fits into ``memory``.
        UnsupportedError: the model returns several tensors, or decides by the numbers it sees.

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
    result, notes = tile_run_noting(model, source, out, tile, memory, progress, overwrite, scratch=scratch)
    for note in notes:
        warnings.warn(f"{out}: {note}", stacklevel=2)
    return result


def check_target(source: Any, out: Any, overwrite: bool) -> None:
    """Refuse a target before anything is computed for it.

    Raises:
        ArgumentError: it is where the source is, or a file that cannot be made there.
    """
    for target in out if isinstance(out, (list, tuple)) else [out]:
        if is_address(target):
            check_address(target, overwrite, source)
            continue
        check_apart(source, target)
        if isinstance(target, (str, Path)):
            files.check_path(Path(target), overwrite)


def tile_run_noting(
    model: torch.nn.Module, source: Any, out: Any, tile: int | Sequence[int] | None,
    memory: int | str | None, progress: bool, overwrite: bool,
    begins: Callable[[TilePlan], object] | None = None, scratch: str | Path | None = None,
) -> tuple[Any, Sequence[str]]:  # fmt: skip
    """``tile_run``, and what is to be said about the file that was made.

    ``begins`` is told the plan once the file can be filled.
    """
    check_target(source, out, overwrite)
    with files.opened(source) as array:
        run = TileRun(model, array, tile, memory, out, scratch)
        targets, all_facts = run.outputs.targets(out), list[files.Facts]()
        if not any(isinstance(target, (str, Path)) for target in targets.values()):
            return run(out, progress), ()
        with ExitStack() as opened:
            filled: list[Any] = []
            for place, (index, node) in enumerate(run.nodes().items()):
                target = targets[index]
                if isinstance(target, (str, Path)):
                    facts = files.facts_of(source)
                    if Path(target).suffix.lower() == ".wav" and files.is_sound(source):
                        _scale_rate(facts, rate_of(model, array.shape, run.dtype, node.shape, place))
                    target = opened.enter_context(_created(target, node, facts))
                    all_facts.append(facts)
                filled.append(target)
            if begins is not None:
                begins(run.plan)
            run(filled[0] if len(filled) == 1 else filled, progress)
        result = out if len(filled) > 1 or is_address(out) else Path(out)
        return result, [note for facts in all_facts for note in facts.notes]


def _created(target: str | Path, node: Node, facts: files.Facts) -> AbstractContextManager[Any]:
    """A file, or what lies at an address, that is whole or not there at all."""
    dtype = arrays.numpy_dtype(node.dtype)
    if is_address(target):
        return files.created_at(str(target), node.shape, dtype)
    return files.created(Path(target), node.shape, dtype, facts)


def _scale_rate(facts: files.Facts, rate: Fraction) -> None:
    """A sound with twice the samples has twice as many a second."""
    exact = facts.rate * rate
    if not 1 <= round(exact) <= files.HIGHEST_RATE:
        raise ArgumentError(
            f"'out' must be a file that can hold the result: got a .wav of {float(exact):.4g} samples a "
            f"second; legal: 1 to {files.HIGHEST_RATE}, or a .npy"
        )
    facts.rate = round(exact)
    if facts.rate != exact:
        facts.notes.append(f"{facts.rate} samples a second, where {float(exact):.9g} would be exact")


def plan(
    model: torch.nn.Module,
    source: Any,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    out: Any = None,
) -> TilePlan:
    """What ``tile_run`` would do: tiles, what each reads, memory, and what is computed more than once.

    ``source`` may also be a shape. ``out`` counts where results are stored in chunks.

    Example:
        >>> print(plan(torch.nn.Conv2d(3, 8, 5, padding=2), (1, 3, 60000, 60000), tile=1000))
        1 x 3 x 60000 x 60000 to 1 x 8 x 60000 x 60000 in 3600 tiles of 1000 x 1000
          a tile reads  1004 x 1004 of the input
          memory        44.1 MB; the whole would take 158 GB
          computed      1.00 times what the whole computes
    """
    if isinstance(source, tuple):
        if prod(source) > _MOST_ELEMENTS:
            raise ArgumentError(
                f"'source' must have fewer than 2**60 elements, as tensors have: got {source}; "
                "legal: such as (1, 3, 60000, 60000)"
            )
        source = torch.empty(1).expand(source)
    with files.opened(source) as array:
        return TileRun(model, array, tile, memory, out).plan
