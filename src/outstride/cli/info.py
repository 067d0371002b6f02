"""`outstride info`: what is installed, what this machine is and what the engine does with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    content = {**facts(), "threads": threads, "engine": runtime.info()}
    if as_json:
        print_json(content)
    else:
        print("\n".join(_lines(content)))


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
