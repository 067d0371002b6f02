"""The weights of a saved model, read without running anything that the file says."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from outstride.errors import ArgumentError, UnsupportedError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a saved model by its name.

    Args:
        path: what ``torch.save(model.state_dict(), path)`` wrote, alone or inside a checkpoint's dictionary,
            or a .safetensors file.

    Returns:
        Names as in the state_dict, those of nested dictionaries joined by dots, and the tensors on the CPU.

    Raises:
        ArgumentError: no such file, a file of another kind, or a whole pickled module, which is not opened:
            that would run code from the file.
        UnsupportedError: safetensors is not installed.
    """
    found = dict(_tensors(read_saved(path), ""))
    if not found:
        raise ArgumentError(f"'FILE' must hold tensors: got {str(path)!r} with none; legal: a state_dict")
    return found


def read_saved(path: Path) -> Any:
    """What a file holds, as it was saved: a state_dict, as a rule.

    Raises:
        ArgumentError, UnsupportedError: as ``read_weights``, but for a file without tensors.
    """
    if not path.is_file():
        raise ArgumentError(f"'FILE' must be a saved model: got {str(path)!r}, which is no file")
    return _from_safetensors(path) if path.suffix == ".safetensors" else _from_torch(path)


def convolution_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those with two axes of channels and one to three of kernel, under their layers' names.

    An optimiser that is saved beside the model keeps tensors of the same shapes: where some are called a
    weight, only they are taken.
    """
    fitting = {name: value for name, value in weights.items() if value.dim() in (3, 4, 5) and value.numel()}
    called = {name: value for name, value in fitting.items() if name.endswith("weight")}
    return {name.removesuffix(".weight"): value for name, value in (called or fitting).items()}


def _from_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise UnsupportedError(
            f"{str(path)!r} needs safetensors, which is not installed; legal: pip install safetensors"
        ) from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArgumentError(f"'FILE' must be a safetensors file: got {str(path)!r} ({error})") from None


def _from_torch(path: Path) -> Any:
    if "constants.pkl" in _members(path):
        # Older versions of torch open a program even where weights alone are asked for.
        raise ArgumentError(
            f"'FILE' must hold tensors alone: got {str(path)!r}, which is a TorchScript program; "
            f"legal: torch.save(model.state_dict(), FILE)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of either ends below or does not matter here
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch refuses both what is no pickle and what holds more than tensors.
        if _is_torchs(path):
            raise ArgumentError(
                f"'FILE' must hold tensors alone: got {str(path)!r}, which holds other objects, and "
                f"opening it would run code from the file; legal: torch.save(model.state_dict(), FILE)"
            ) from None
        raise _not_torchs(path) from None
    except (EOFError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, UnicodeDecodeError):
        raise _not_torchs(path) from None


def _is_torchs(path: Path) -> bool:
    if members := _members(path):
        return "data.pkl" in members
    with path.open("rb") as file:
        return file.read(1) == b"\x80"  # a pickle's first byte since protocol 2


def _members(path: Path) -> set[str]:
    """What a zip archive holds, without the folders; nothing where the file is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.rpartition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return set()


def _not_torchs(path: Path) -> ArgumentError:
    return ArgumentError(
        f"'FILE' must be what torch.save wrote, or safetensors: got {str(path)!r}, which is neither; "
        f"legal: torch.save(model.state_dict(), FILE)"
    )


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, _plain(value)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{name}.{key}" if name else str(key))


def _plain(tensor: Tensor) -> Tensor:
    """The numbers that a quantised or sparse tensor stands for."""
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout is torch.strided else tensor.to_dense()
