"""`outstride tile`: a model on a picture, a recording or an array larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outstride.cli.model import read_model
from outstride.cli.options import refuse
from outstride.cli.screen import print_json
from outstride.cli.sources import arguments_of
from outstride.cli.tiled import by_cluster, made_each, made_one, places_in, say_leftovers
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
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE [OUT]",
            help="SOURCE: a .npy, .zarr, OME-Zarr, TIFF, SVS, PNG, JPEG, NIfTI, HDF5, WAV or FLAC file, or "
            "the address of a .zarr, s3://bucket/x.zarr; with --plan also a shape such as 1,3,60000,60000. "
            "OUT: the .npy, .zarr, .ome.zarr, .tif, .ome.tif, .png, .jpg, .nii, .nii.gz, .wav or .flac to "
            "make, or the address of a .zarr; of several results such as y.{}.npy, with the name of each.",
        ),
    ],
    out_dir: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the results of any number of SOURCEs, each under the name of its own."
        ),
    ] = None,
    ending: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="ENDING",
            help="What the names in --out-dir end with, such as ome.tif, or {}.npy of several results; by "
            "default as the source's.",
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
    ngff_version: Annotated[
        str | None,
        typer.Option(metavar="0.4|0.5", help="Release of an .ome.zarr: 0.4 for readers of zarr's format 2."),
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

    outstride tile mymodel.py:unet slides/*.svs --out-dir masks --format ome.tif

    outstride tile mymodel.py:unet s3://slides/a.zarr s3://masks/a.zarr --scheduler tcp://host:8786
    """
    from outstride import tiling
    from outstride.bench.cases import parse_size
    from outstride.errors import ArgumentError
    from outstride.tiling.files.addresses import is_address
    from outstride.tiling.results.asking import Options
    from outstride.tiling.running import Runs

    words = {
        name: f"--{name}"
        for name in ("tile", "memory", "level", "axes", "dataset", "only", "resume", "scratch", "scheduler")
    }
    words |= {"model": "MODEL", "source": "SOURCE", "out": "OUT", "output_range": "--output-range"}
    words |= {"output_bits": "--output-bits", "ngff_version": "--ngff-version"}
    sizes: Any = parse_size(tile, "--tile", 1) if tile else None
    if sizes is not None and len(sizes) == 1:  # a single number stands for every axis
        sizes = sizes[0]
    if out_dir is None:
        refuse(context, ["ending"], "results without --out-dir")
    if out_dir is None and len(paths) > 2:
        raise ArgumentError(
            f"'OUT' must be the only argument behind SOURCE: got {len(paths)} arguments; legal: --out-dir "
            "FOLDER for any number of sources"
        )
    source, out = paths[0], None if out_dir is not None or len(paths) < 2 else paths[1]
    found = _with_memory(read_model(model)).eval()
    if weights is not None:
        _load(found, weights)
    alone = ["level", "axes", "dataset", "output_range", "output_bits", "only"]
    alone += ["resume", "scratch", "verify", "clean", "out_dir", "ngff_version"]
    if scheduler is not None:
        refuse(context, ["only_plan", *alone], "'--scheduler'")

    def given(path: str, shapes: bool = False) -> Any:
        """What the model is called with for a source."""
        one: Any = path if is_address(path) else tiling.File(path, level, axes, dataset)
        if shapes and one is not path and not Path(path).exists() and not set(path) - set("0123456789,x "):
            one = parse_size(path, "SOURCE", 1)
        return arguments_of(found, one, inputs or (), shapes)

    with typed(**words, tiles="--verify"):
        if only_plan:
            refuse(context, ["out_dir"], "'--plan'")
            plan = tiling.plan(found, given(source, shapes=True), sizes, memory, out)
            print_json(plan.to_dict()) if as_json else print(plan)
            return
        boxes = None if only is None else [_box(text) for text in only]
        options = Options(True, overwrite, output_range, output_bits, resume, boxes, ngff_version)
        runs = Runs(found, sizes, memory, scratch)
        if out_dir is not None:
            outs = places_in(out_dir, paths, ending)
            out_dir.mkdir(parents=True, exist_ok=True)
            report = made_each(runs, list(map(given, paths)), outs, options, verify, as_json)
            say_leftovers(outs, clean, report, as_json)
        elif out is None:
            raise ArgumentError("'OUT' must name the file to make: got none; legal: result.npy, or --plan")
        elif scheduler is not None:
            report = by_cluster(found, given(source), out, scheduler, sizes, memory, overwrite, as_json)
        elif is_address(out):
            local = ["verify", "clean", "resume", "only", "output_range", "output_bits", "ngff_version"]
            refuse(context, local, f"OUT at an address, {out}")
            report = made_one(runs, given(source), out, options, None, as_json)
        else:
            report = made_one(runs, given(source), out, options, verify, as_json)
            say_leftovers([out], clean, report, as_json)
    if as_json:
        print_json(report)
    if not report.get("exact", True):
        raise typer.Exit(1)


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
