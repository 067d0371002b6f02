"""`outstride info`: what is installed, what this machine is and what the engine does with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Annotated, Any

import typer

from outstride.cli.screen import print_json


def info(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Print versions, processor, instruction set, OpenMP library and what the engine supports here.

    Example:

    outstride info --json
    """
    from outstride.bench.machine import facts
    from outstride.engine import runtime

    try:
        # The engine shares torch's own thread pool, which can be named only once torch is loaded.
        import torch
    except ModuleNotFoundError:
        threads = None
    else:
        threads = torch.get_num_threads()
    engine = runtime.info()
    content = {
        **facts(),
        "threads": threads,
        "advice": _advice(threads, engine["cpu_share"]),
        "engine": engine,
    }
    if as_json:
        print_json(content)
    else:
        print("\n".join(_lines(content)))


def _advice(threads: int | None, share: Any) -> str | None:
    """What to do where torch starts more threads than this process is given time for."""
    wanted = ceil(share) if share is not None else None
    if threads is None or wanted is None or threads <= wanted:
        return None
    return f"torch.set_num_threads({wanted}): control groups leave this process {share:g} processors' time"


def _lines(content: Mapping[str, Any], indent: str = "") -> Iterable[str]:
    for name, value in content.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield f"{indent}{words}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)):
            yield f"{indent}{words}: {', '.join(map(str, value))}"
        else:
            yield f"{indent}{words}: {'-' if value is None else value}"
