"""`outstride plan`: what the engine would run for a layer, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from outstride.cli.bench import DTYPES
from outstride.cli.layer import LayerText, build_layer, read_built, read_size
from outstride.cli.screen import print_json
from outstride.cli.wording import typed
from outstride.layer.shortening import ALGORITHMS


def plan(
    layer: LayerText,
    input_size: Annotated[str, typer.Argument(metavar="SIZE", help="Input size such as 32x32.")],
    batch: Annotated[int, typer.Option(min=0, help="Batch of the input.")] = 1,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    algorithm: Annotated[str, typer.Option(help=f"One of {', '.join(ALGORITHMS)}.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads to plan for.")] = None,
    source: Annotated[bool, typer.Option("--source", help="Print the generated code instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print what would run for a layer at a size, why, and what it costs; nothing is run.

    Example:

    outstride plan "ConvTranspose2d(64, 32, 4, stride=2, padding=1)" 32x32 --source
    """
    from outstride.errors import ArgumentError
    from outstride.geometry import output_size
    from outstride.geometry.in_torch import torch_refuses

    spec = read_built(layer, options=("dtype", "algorithm"))
    size = read_size(input_size, spec, "SIZE")
    if dtype not in DTYPES:
        raise ArgumentError(f"'--dtype' must be one of {', '.join(DTYPES)}: got {dtype!r}.")
    if algorithm not in ALGORITHMS:
        raise ArgumentError(f"'--algorithm' must be one of {', '.join(ALGORITHMS)}: got {algorithm!r}.")
    with typed(input_size="SIZE"):
        assert output_size(spec, size)
    module = build_layer(spec, dtype)

    import torch

    from outstride import planning

    if threads is not None:
        torch.set_num_threads(threads)
    found = planning.plan(module, (batch, spec.in_channels or 0, *size), algorithm=algorithm)
    refused = torch_refuses(spec)
    if as_json:
        content = {**found.to_dict(), "not_in_torch": refused}
        print_json({**content, **({"source": found.source} if source else {})})
    elif source:
        print(found.source)
    else:
        print("\n".join([str(found), *(f"  {'not in torch':14}{reason}" for reason in refused)]))
