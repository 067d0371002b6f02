"""What a result belongs to: whatever decides its bits, in words that can be compared later."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outstride.engine.runtime import decline
from outstride.engine.runtime.algorithm import resolved
from outstride.models.graph import Graph
from outstride.tiling.files.apart import place_of
from outstride.tiling.files.readers import File
from outstride.tiling.inputs import Inputs
from outstride.tiling.surroundings import Surroundings

#: What each entry is called where it differs.
WORDS = {
    "journal": "a journal of another version of outstride",
    "versions": "another version of outstride or torch",
    "machine": "a machine with other instructions",
    "settings": "other settings (autocast, default dtype, matmul precision, OUTSTRIDE_ALGORITHM, kernels)",
    "source": "another source, or one that has changed since",
    "program": "another model",
    "weights": "a model with other weights",
    "result": "a result of another shape, type, range or release",
}
_BLOCK = 1 << 22


def belongs_to(graph: Graph, given: Inputs, read: Inputs) -> dict[str, Any] | None:
    """What decides the bits of all results; None where a source cannot be known again.

    Args:
        graph: of the model.
        given: its inputs as the caller gave them, ``read`` as they are read.
    """
    known = [_known(*leaves) for leaves in zip(given.leaves, read.leaves, strict=True)]
    if None in known:
        return None
    here = Surroundings.now()
    return {
        "versions": {"outstride": version("outstride"), "torch": torch.__version__},
        "machine": torch.backends.cpu.get_cpu_capability(),  # torch's functions have routines for each
        "settings": [
            str(setting)
            for setting in (here.dtype, here.autocast, here.precision, resolved("auto"), decline())
        ],
        "source": known[0] if given.alone else {"names": list(given.names), "inputs": known},
        "program": _hash([repr(graph.nodes).encode(), repr(graph.outputs).encode()]),
        "weights": _hash(part for index in graph.constants for part in _tensor(graph.constants[index])),
    }


def difference(was: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What is not the same any more, in words."""
    return next((word for name, word in WORDS.items() if was.get(name) != now.get(name)), None)


def _hash(parts: Any) -> str:
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _tensor(tensor: Tensor) -> Any:
    """The type, the size and the numbers of a tensor, in blocks."""
    yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    flat = tensor.detach().resolve_conj().contiguous().reshape(-1)
    for part in flat.split(_BLOCK):
        yield part.new_empty(part.shape).copy_(part).view(torch.uint8).numpy().data if part.numel() else b""


def _known(given: Any, read: Any) -> Any:
    """One input: a source, or a number as it is."""
    if not hasattr(read, "shape"):
        return {"number": repr(read)}
    known = _source(given)
    return known and {**known, "shape": list(read.shape), "dtype": str(read.dtype)}


def _source(source: Any) -> dict[str, Any] | None:
    """A file by its place, size and time; an array in memory by its numbers."""
    if isinstance(source, File):
        found = _file(source.place)
        return found and {**found, "level": source.level, "axes": source.named, "dataset": source.dataset}
    place = place_of(source)
    if place is not None:
        return {**_file(place), "strides": str(getattr(source, "strides", ""))}
    if isinstance(source, Tensor):
        if source.device.type != "cpu" or source.layout != torch.strided:
            return None
        return {"numbers": _hash(_blocks(_once(source, source.stride()))), "strides": str(source.stride())}
    if isinstance(source, np.ndarray):
        return {"numbers": _hash(_blocks(_once(source, source.strides))), "strides": str(source.strides)}
    return None


def _once(array: Any, strides: Sequence[int]) -> Any:
    """An array without the axes along which one element stands for all."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)]


def _blocks(array: Any) -> Any:
    """The numbers of an array in memory, slice after slice."""
    rank = len(array.shape)
    if rank == 0 or 0 in array.shape:
        return
    if rank > 2:
        for part in array:
            yield from _blocks(part)
        return
    size = max(_BLOCK // max(array.shape[-1], 1), 1)
    for start in range(0, array.shape[0], size):
        part = array[start : start + size]
        yield from _tensor(part if isinstance(part, Tensor) else torch.from_numpy(np.ascontiguousarray(part)))


def _file(path: Path) -> dict[str, Any]:
    """A file, or all files of a folder."""
    real = Path(os.path.realpath(path))
    if not real.is_dir():
        status = real.stat()
        return {"path": str(real), "bytes": status.st_size, "time": status.st_mtime_ns}
    found, size, count = blake2b(digest_size=16), 0, 0
    for folder, folders, names in os.walk(real):
        folders.sort()
        for name in sorted(names):
            status = (Path(folder) / name).stat()
            found.update(f"{folder} {name} {status.st_size} {status.st_mtime_ns}\n".encode())
            size, count = size + status.st_size, count + 1
    return {"path": str(real), "bytes": size, "files": count, "times": found.hexdigest()}
