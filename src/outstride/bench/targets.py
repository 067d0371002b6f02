"""Models by their names: a callable in a module or a file, a name that timm knows, a saved program."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from outstride.errors import ArgumentError, UnsupportedError

REGISTRIES, PROGRAM = ("timm", "torchvision"), ".pt2"
Built = tuple[nn.Module, Tensor | None]
# What a torchvision that was built for another torch lacks, and no model here computes with.
_VISION_OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []


def build(name: str) -> Built:
    """The model of this name, and the input that comes with it, or None where none does.

    Args:
        name: "package.module:callable" or "file.py:callable", which gives a module or a module and its input;
            "timm:resnet50", whose input is of timm's own size, or "torchvision:resnet18", with fresh weights;
            a file that `torch.export.save` wrote, "x.pt2".

    Raises:
        ArgumentError: there is none, its code fails, or it takes anything but one tensor.
        UnsupportedError: timm or torchvision cannot be imported.
    """
    if name.endswith(PROGRAM):
        return _program(name)
    where, _, attribute = name.rpartition(":")
    if where in REGISTRIES:
        return _registered(where, attribute)
    try:
        found = getattr(_load(where), attribute)
        made = found if isinstance(found, nn.Module) else found()
    except Exception as error:
        raise ArgumentError(
            f"'MODEL' must name a model or a callable that makes one: {name!r} raised {said(error)}."
        ) from error
    model, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"'MODEL' must return a torch module: {name!r} returned {type(made).__name__}.")
    if example is not None and not isinstance(example, Tensor):
        raise ArgumentError(
            f"'MODEL' must return a torch module and one tensor, its input: {name!r} returned "
            f"{type(example).__name__} for the tensor."
        )
    return model, example


def factories(where: str) -> dict[str, str]:
    """What the public functions of a file or a module that need no argument are called, and what they say.

    Raises:
        ArgumentError: it cannot be loaded, or has no such function.
    """
    try:
        module = _load(where)
    except Exception as error:
        raise ArgumentError(
            f"'models' must be a Python file or a module that can be loaded: {where!r} raised {said(error)}."
        ) from error
    found = {
        name: (inspect.getdoc(value) or "").partition("\n")[0]
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and _is_factory(name, value)
    }
    if not found:
        raise ArgumentError(
            f"'models' must hold functions without arguments that return a model and its input: {where!r} "
            "holds none."
        )
    return found


def library(name: str) -> ModuleType:
    """A library that stands on torchvision, imported even where that lacks its compiled operators."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass  # whoever needs it says so
    except RuntimeError:
        # Declared without a body they let it be imported.
        _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
        for operator in _VISION_OPERATORS:
            _declared[-1].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
    return importlib.import_module(name)


def said(error: BaseException) -> str:
    """An error as a part of a sentence, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_factory(name: str, function: Callable[..., Any]) -> bool:
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return not name.startswith("_") and not needed


def _load(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(where)
    # Under a name that nothing else has: compilers import by name the module of a function that they read.
    spec = importlib.util.spec_from_file_location(f"outstride_models_of_{Path(where).stem}", where)
    if spec is None or spec.loader is None or not Path(where).is_file():
        raise FileNotFoundError(where)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _registered(where: str, name: str) -> Built:
    try:
        known: Any = library("timm" if where == "timm" else "torchvision.models")
    except (ImportError, RuntimeError) as error:
        raise UnsupportedError(
            f"{where}:{name} needs {where}, which cannot be imported ({said(error)}); "
            f"legal: pip install {where}"
        ) from error
    names = known.list_models()
    if name not in names:
        alike = [f"{where}:{other}" for other in get_close_matches(name, names, 3, 0.4)]
        legal = f"; legal: {', '.join(alike)}" if alike else ""
        raise ArgumentError(f"'MODEL' must be a name that {where} knows: got {name!r}{legal}.")
    model: nn.Module = known.create_model(name) if where == "timm" else known.get_model(name, weights=None)
    if where == "torchvision":
        return model, None
    return model, torch.randn(1, *known.data.resolve_model_data_config(model)["input_size"])


def _program(path: str) -> Built:
    with _logged_errors() as logged:
        try:
            saved = torch.export.load(path)
            positional, named = saved.example_inputs or ((), {})
            module = saved.module()
        except Exception as error:
            raise ArgumentError(
                f"'MODEL' must be a program that torch.export.save wrote: got {path!r} "
                f"({said(logged[0] if logged else error)})."
            ) from error
    given = [*positional, *named.values()]
    if len(given) != 1 or named or not isinstance(given[0], Tensor):
        kinds = ", ".join(type(value).__name__ for value in given) or "nothing"
        raise ArgumentError(f"'MODEL' must take one tensor: {path!r} takes {kinds}.")
    return module, given[0]


@contextmanager
def _logged_errors() -> Iterator[list[BaseException]]:
    """Errors that torch.export logs with a traceback and then calls "above": a sentence says them instead."""
    logged: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        logged.extend([] if error is None else [error])
        return error is None

    log = logging.getLogger("torch.export")
    log.addFilter(keep)
    try:
        yield logged
    finally:
        log.removeFilter(keep)
