"""What a model is called with on the command line: SOURCE, and further inputs by --input."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

#: NAME=FILE, where the name is one that a function's argument can have.
_NAMED = re.compile(r"([^\W\d]\w*)=(.+)", re.DOTALL)
_WORDS = {"true": True, "false": False, "none": None}


def arguments_of(model: Any, source: Any, inputs: Sequence[str], shapes: bool) -> Any:
    """The arguments of a model: the source alone, or it and further ones in their order or by their names.

    ``shapes``: whether a shape may stand for a file, as in a plan.

    Raises:
        ArgumentError: a name is given twice, or a value is none.
    """
    from outstride.errors import ArgumentError
    from outstride.tiling.inputs import Arguments

    if not inputs:
        return source
    args, kwargs = [source], dict[str, Any]()
    for text in inputs:
        found = _NAMED.fullmatch(text)
        if found is None:
            args.append(value_of(text, shapes))
            continue
        if found[1] in kwargs:
            raise ArgumentError(f"'--input' must name an input once: got {found[1]!r} again; legal: one file")
        kwargs[found[1]] = value_of(found[2], shapes)
    if not kwargs:
        return tuple(args)
    named = _by_names(model, args, kwargs)
    return Arguments(tuple(args), kwargs) if named is None else Arguments((), {**named, **kwargs})


def _by_names(model: Any, args: Sequence[Any], taken: Collection[str]) -> dict[str, Any] | None:
    """Arguments without names as the first of those that no other has; None of a model that has no names."""
    from outstride.errors import ArgumentError

    try:
        parameters = signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # no Python
        return None
    if any(each.kind is Parameter.VAR_POSITIONAL for each in parameters):
        return None
    known = [each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
    free = [name for name in known if name not in taken]
    if len(free) < len(args):
        raise ArgumentError(
            f"'--input' must name inputs of the model: got {', '.join(taken)} beside {len(args)} without a "
            f"name; legal: {', '.join(known)}"
        )
    return dict(zip(free, args, strict=False))


def value_of(text: str, shapes: bool) -> Any:
    """A file, an address, a number, or a shape where those are taken."""
    from outstride.bench.cases import parse_size
    from outstride.tiling import File
    from outstride.tiling.files.addresses import is_address

    if is_address(text):
        return text
    if Path(text).exists():
        return File(text)
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        return float(text)
    if shapes and not set(text) - set("0123456789,x "):
        return parse_size(text, "--input", 1)
    return File(text)
