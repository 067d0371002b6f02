"""A model on its way to workers: bytes, until one needs it, with the code of the user's own files."""

from __future__ import annotations

import pickle
import sys
import sysconfig
from pathlib import Path
from typing import Any

import torch


class Parcel:
    """A model that is packed where it travels; whoever only passes it on needs none of its code."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model: torch.nn.Module | None = model
        self._packed = b""

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": None, "_packed": self._packed if self._model is None else packed(self._model)}

    def opened(self) -> torch.nn.Module:
        """The model; from now on it is held in this form alone."""
        if self._model is None:
            self._model = pickle.loads(self._packed)  # noqa: S301 - Dask's workers run what clients send
            self._packed = b""
        return self._model


def packed(model: torch.nn.Module) -> bytes:
    """A model in bytes. Classes of modules that are no installed packages go with it, by their code."""
    import cloudpickle

    own = {type(module).__module__.partition(".")[0] for module in model.modules()}
    registered = [sys.modules[name] for name in sorted(own) if _is_own(name)]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(model))
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(name: str) -> bool:
    """Whether a module is neither Python's nor in a folder of installed packages."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name == "outstride":
        return False
    installed = (sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return not any(Path(file).is_relative_to(folder) for folder in installed)
