"""Convolutions and transposed convolutions for PyTorch, and the answers around them.

Importing this package is light: every public name below is loaded when it is first used, so that the
geometry half never pays for torch, and nobody pays for the compiler before the first kernel.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outstride.engine.dispatch.registration import promise_operators

if TYPE_CHECKING:
    from outstride import artifacts, convert, errors, functional, geometry, nn, reference, tiling
    from outstride.acceleration import accelerate, restore
    from outstride.compilation.report import fusions
    from outstride.explanation.explaining import explain
    from outstride.inspection.checking import check
    from outstride.layer.spec import ConvSpec
    from outstride.linear.conv_operator import ConvOperator
    from outstride.pictures.kernel_grid import kernels
    from outstride.planning import plan

__version__ = "0.1.0"

__all__ = [
    "ConvOperator",
    "ConvSpec",
    "__version__",
    "accelerate",
    "artifacts",
    "check",
    "convert",
    "errors",
    "explain",
    "functional",
    "fusions",
    "geometry",
    "kernels",
    "nn",
    "plan",
    "reference",
    "restore",
    "tiling",
]

# Where each public object lives. A module may not bear the name of a public object: importing it would
# put the module in the object's place here (docs/decisions/0002).
_OBJECTS = {
    "ConvOperator": "outstride.linear.conv_operator",
    "ConvSpec": "outstride.layer.spec",
    "accelerate": "outstride.acceleration",
    "check": "outstride.inspection.checking",
    "explain": "outstride.explanation.explaining",
    "fusions": "outstride.compilation.report",
    "kernels": "outstride.pictures.kernel_grid",
    "plan": "outstride.planning",
    "restore": "outstride.acceleration",
}
promise_operators()
_MODULES = frozenset(__all__) - _OBJECTS.keys() - {"__version__"}


def __getattr__(name: str) -> Any:
    if name not in _OBJECTS and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_OBJECTS.get(name, f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = f"{name!r} must have torch, which is not installed; legal: pip install torch"
        raise ModuleNotFoundError(message, name="torch") from error
    globals()[name] = value = getattr(module, name) if name in _OBJECTS else module
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
