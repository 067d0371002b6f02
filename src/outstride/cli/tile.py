"""`outstride tile`: a model on a picture, a recording or an array larger than memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from outstride.cli.model import read_model
from outstride.cli.options import refuse
from outstride.cli.screen import InterruptedWorkError, print_json
from outstride.cli.sources import arguments_of
from outstride.cli.wording import typed

#: Letters of what torch says of weights that do not fit; of a large model it is pages.
_MOST_SAID = 300


def tile(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A layer as torch writes it, a factory package.module:callable or file.py:callable, or a "
            "name such as timm:resnet18.",
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .npy, .zarr, OME-Zarr, TIFF, SVS, PNG, JPEG, NIfTI, HDF5, WAV or FLAC file, or the "
            "address of a .zarr, s3://bucket/x.zarr; with --plan also a shape such as 1,3,60000,60000.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Argument(
            metavar="[OUT]",
            help="The .npy, .zarr, .ome.zarr, .tif, .ome.tif, .png, .jpg, .nii, .nii.gz, .wav or .flac to "
            "make; or the address of a .zarr. Of several results such as y.{}.npy, with the name of each.",
        ),
    ] = None,
    tile: Annotated[str, typer.Option(help="Size of a tile of the result, such as 1024x1024.")] = "",
    memory: Annotated[str | None, typer.Option(help="What a tile's tensors may take, such as 2GB.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A state dict saved by torch, loaded into the model.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Have the workers of a Dask scheduler make it, such as tcp://host:8786, from what they can "
            "open themselves to a .zarr in a shared folder or at an address."
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="[NAME=]FILE",
            help="A further input of the model, by its name there or the next in order: a file, an address "
            "or a number; repeatable.",
        ),
    ] = None,
    level: Annotated[int | None, typer.Option(help="Level of a pyramid to read, 0 for the largest.")] = None,
    axes: Annotated[
        str | None, typer.Option(help="A letter for each axis of SOURCE, of NTCSZYXL, such as CZYX.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The array inside an HDF5 file, or the image inside a zarr group.")
    ] = None,
    output_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="The numbers that become 0 and 255 in a file of bytes."),
    ] = None,
    output_bits: Annotated[
        int | None,
        typer.Option(metavar="8|16", help="Of the integers of --output-range: 16 for 0 and 65535."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BOX", help="Only tiles with a part in 0:512,1024:2048 of the result; repeatable."
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Insist on going on with what an ended run left, or throw that away; by default it is gone "
            "on with where there is something.",
        ),
    ] = None,
    verify: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Make N tiles of OUT once more and compare; of an OUT that exists nothing else is done.",
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what other ended runs left in OUT's folder.")
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done, and do nothing.")
    ] = False,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="A folder for maps that --memory does not hold; that of temporary files otherwise."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a model tile by tile, with exactly the result of the whole.

    What ends it, the same command goes on where it stopped.

    Examples:

    outstride tile mymodel.py:unet slide.svs masks.ome.tif --weights unet.pt --memory 2GB --level 1

    outstride tile "Conv2d(3, 8, 5, padding=2)" 1,3,60000,60000 --plan

    outstride tile mymodel.py:matting photo.png alpha.png --input mask=trimap.png

    outstride tile mymodel.py:unet s3://slides/a.zarr s3://masks/a.zarr --scheduler tcp://host:8786
    """
    from outstride import tiling
    from outstride.bench.cases import parse_size
    from outstride.errors import ArgumentError
    from outstride.tiling.files.addresses import is_address
    from outstride.tiling.outputs import HERE
    from outstride.tiling.results.filling import Options

    words = {
        name: f"--{name}"
        for name in ("tile", "memory", "level", "axes", "dataset", "only", "resume", "scratch", "scheduler")
    }
    words |= {"model": "MODEL", "source": "SOURCE", "out": "OUT", "output_range": "--output-range"}
    words |= {"output_bits": "--output-bits"}
    sizes: Any = parse_size(tile, "--tile", 1) if tile else None
    if sizes is not None and len(sizes) == 1:  # a single number stands for every axis
        sizes = sizes[0]
    found = _with_memory(read_model(model)).eval()
    if weights is not None:
        _load(found, weights)
    alone = ["level", "axes", "dataset", "output_range", "output_bits", "only"]
    alone += ["resume", "scratch", "verify", "clean"]
    if scheduler is not None:
        refuse(context, ["only_plan", *alone], "'--scheduler'")
    with typed(**words, tiles="--verify"):
        given: Any = source if is_address(source) else tiling.File(source, level, axes, dataset)
        if only_plan:
            if given is not source and not Path(source).exists() and not set(source) - set("0123456789,x "):
                given = parse_size(source, "SOURCE", 1)
            given = arguments_of(found, given, inputs or (), shapes=True)
            plan = tiling.plan(found, given, sizes, memory, out)
            if as_json:
                print_json(plan.to_dict())
            else:
                print(plan)
            return
        if out is None:
            raise ArgumentError("'OUT' must name the file to make: got none; legal: result.npy, or --plan")
        report: dict[str, Any] = {"out": out}
        given = arguments_of(found, given, inputs or (), shapes=False)
        if scheduler is not None:
            report |= _by_cluster(found, given, out, scheduler, sizes, (memory, overwrite), as_json)
        elif is_address(out):
            refuse(context, ["verify", "clean"], f"OUT at an address, {out}")
            report |= _made(
                found, given, out, Options(sizes, memory, True, overwrite, scratch=scratch), as_json
            )
        elif HERE in out:
            refuse(context, ["verify", "clean", "resume", "only"], f"several results, {out}")
            options = Options(sizes, memory, True, overwrite, output_range, output_bits, scratch=scratch)
            report |= _made(found, given, out, options, as_json)
        elif verify is None or overwrite or not os.path.lexists(out):
            boxes = None if only is None else [_box(text) for text in only]
            options = Options(
                sizes, memory, True, overwrite, output_range, output_bits, resume, boxes, scratch
            )
            report |= _made(found, given, out, options, as_json)
        if verify is not None and report.get("whole", True):
            verdict = tiling.recheck(found, given, out, verify, sizes, memory, output_range, output_bits)
            report["verified"] = verdict.to_dict()
            if not as_json:
                print(f"verified: {verdict}")
        if scheduler is None and not is_address(out):
            _say_leftovers(Path(out), clean, report, as_json)
    if as_json:
        print_json(report)
    if not report.get("verified", {}).get("exact", True):
        raise typer.Exit(1)


def _made(model: Any, source: Any, out: str, options: Any, as_json: bool) -> dict[str, Any]:
    """Make the file, say so, and give the figures."""
    from time import perf_counter

    from outstride.tiling import TilePlan
    from outstride.tiling.files.addresses import is_address
    from outstride.tiling.making import make
    from outstride.tiling.results.partial import progress_of

    def begins(plan: TilePlan, done: int) -> None:
        if not as_json:
            print(plan)
            if done:
                print(f"  goes on       {done} of {len(plan)} tiles were done")

    started = perf_counter()
    try:
        outcome = make(model, source, out, options, begins)
    except KeyboardInterrupt:
        done = 0 if is_address(out) else progress_of(Path(out))
        there = f"{done} tiles are done, the same command goes on" if done else f"no {out} was made"
        raise InterruptedWorkError(f"interrupted after {perf_counter() - started:.0f} s: {there}") from None
    seconds = perf_counter() - started
    if not as_json:
        done = outcome.found + outcome.made
        made = ", ".join(outcome.out) if isinstance(outcome.out, list) else out
        saved = f"saved: {made} in {seconds:.1f} s"
        begun = f"begun: {done} of {outcome.tiles} tiles of {out}; the command without --only makes the rest"
        print("\n".join([saved if outcome.whole else begun, *(f"  {note}" for note in outcome.notes)]))
    return {
        **outcome.plan.to_dict(), "seconds": seconds, "found": outcome.found, "made": outcome.made,
        "whole": outcome.whole, "notes": outcome.notes,
    }  # fmt: skip


def _by_cluster(
    model: Any, source: Any, out: str, scheduler: str, sizes: Any, options: tuple[Any, Any], as_json: bool
) -> dict[str, Any]:
    """Have a cluster make an array, say so, and give the figures."""
    from time import perf_counter

    from outstride.tiling.clusters.workers import cluster_run_noting

    content: dict[str, Any] = {}
    memory, overwrite = options

    def begins(spread: Any) -> None:
        content.update(spread.to_dict())
        if not as_json:
            print(spread)

    started = perf_counter()
    try:
        notes = cluster_run_noting(model, source, out, scheduler, sizes, memory, True, overwrite, begins)
    except KeyboardInterrupt:
        raise InterruptedWorkError(
            f"interrupted after {perf_counter() - started:.0f} s: no {out} was made"
        ) from None
    seconds = perf_counter() - started
    if not as_json:
        print("\n".join([f"saved: {out} in {seconds:.1f} s", *(f"  {note}" for note in notes)]))
    return {**content, "seconds": seconds, "notes": list(notes)}


def _box(text: str) -> list[tuple[int, int]]:
    """A box as it is typed, 0:512,1024:2048."""
    from outstride.errors import ArgumentError

    try:
        sides = [tuple(map(int, side.split(":"))) for side in text.split(",")]
        return [(start, stop) for start, stop in sides]
    except ValueError:
        raise ArgumentError(
            f"'only' must name boxes of the result: got {text!r}; legal: such as 0:512,1024:2048"
        ) from None


def _say_leftovers(out: Path, clean: bool, report: dict[str, Any], as_json: bool) -> None:
    """Name what other runs left beside a result, or remove it."""
    from outstride.tiling.budget import spelled
    from outstride.tiling.results.partial import cleaned, folder_of, leftovers

    beside = folder_of(out)
    found = [left for left in leftovers(beside.parent) if left.folder != beside]
    if clean:
        found = cleaned(found)
    report["removed" if clean else "leftovers"] = [str(left.folder) for left in found]
    for left in () if as_json else found:
        of = f"{left.done} of {left.tiles} tiles of {left.name} that a run left ({spelled(left.bytes)})"
        print(f"removed: {of}" if clean else f"left over: {of}; its command goes on, --clean removes it")


def _with_memory(model: Any) -> Any:
    """A layer that was read from its text has weights without numbers: fresh ones."""
    if any(weight.is_meta for weight in model.parameters()):
        model = model.to_empty(device="cpu")
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return model


def _load(model: Any, path: Path) -> None:
    from outstride.errors import ArgumentError
    from outstride.pictures.saved_weights import read_saved

    with typed(FILE="--weights"):
        state = read_saved(path)
    try:
        model.load_state_dict(state)
    except Exception as error:
        said = " ".join(str(error).split())[:_MOST_SAID]
        raise ArgumentError(
            f"'--weights' must be a state dict of this model: got {str(path)!r} ({said}); "
            "legal: what torch.save(model.state_dict(), path) wrote"
        ) from error
