"""`outstride tile`: a model on a picture, a recording or an array larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from outstride.cli.screen import InterruptedWorkError, print_json
from outstride.cli.wording import typed

#: Letters of what torch says of weights that do not fit; of a large model it is pages.
_MOST_SAID = 300


def tile(
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
            help="A .npy, .zarr, TIFF, PNG or WAV file, or the address of a .zarr, s3://bucket/x.zarr; with "
            "--plan also a shape such as 1,3,60000,60000.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Argument(metavar="[OUT]", help="The .npy, .zarr, .tif, .png or .wav to make; or an address."),
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
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done, and do nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a model tile by tile, with exactly the result of the whole.

    Examples:

    outstride tile mymodel.py:unet slide.tif masks.zarr --weights unet.pt --memory 2GB

    outstride tile "Conv2d(3, 8, 5, padding=2)" 1,3,60000,60000 --plan

    outstride tile mymodel.py:unet s3://slides/a.zarr s3://masks/a.zarr --scheduler tcp://host:8786
    """
    from time import perf_counter

    from outstride import tiling
    from outstride.bench.cases import parse_size
    from outstride.cli.model import read_model
    from outstride.errors import ArgumentError
    from outstride.tiling.addresses import is_address
    from outstride.tiling.clusters import cluster_run_noting
    from outstride.tiling.running import tile_run_noting

    sizes: Any = parse_size(tile, "--tile", 1) if tile else None
    if sizes is not None and len(sizes) == 1:  # a single number stands for every axis
        sizes = sizes[0]
    found = _with_memory(read_model(model)).eval()
    if weights is not None:
        _load(found, weights)
    given: Any = source if is_address(source) else Path(source)
    words = {"tile": "--tile", "memory": "--memory", "scheduler": "--scheduler"}
    with typed(model="MODEL", source="SOURCE", out="OUT", **words):
        if only_plan:
            if scheduler is not None:
                raise ArgumentError(
                    "'--scheduler' must be left out beside --plan, where it would have no effect: got both; "
                    "legal: outstride tile without it"
                )
            if given is not source and not given.exists() and not set(source) - set("0123456789,x "):
                given = parse_size(source, "SOURCE", 1)
            plan = tiling.plan(found, given, sizes, memory, out)
            if as_json:
                print_json(plan.to_dict())
            else:
                print(plan)
            return
        if out is None:
            raise ArgumentError("'OUT' must name the file to make: got none; legal: result.npy, or --plan")
        content: dict[str, object] = {}

        def begins(plan: Any) -> None:
            content.update(plan.to_dict())
            if not as_json:
                print(plan)

        started = perf_counter()
        try:
            notes: Sequence[str]
            if scheduler is None:
                _, notes = tile_run_noting(found, given, out, sizes, memory, True, overwrite, begins)
            else:
                notes = cluster_run_noting(
                    found, given, out, scheduler, sizes, memory, True, overwrite, begins
                )
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"interrupted after {perf_counter() - started:.0f} s: no {out} was made"
            ) from None
    seconds = perf_counter() - started
    if as_json:
        print_json({**content, "out": str(out), "seconds": seconds, "notes": list(notes)})
    else:
        print("\n".join([f"saved: {out} in {seconds:.1f} s", *(f"  {note}" for note in notes)]))


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
