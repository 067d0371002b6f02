"""``torch.ops.outstride`` is there as soon as both this package and torch are imported.

A saved program (``torch.export``, AOTInductor, a pickled graph) asks for its operators by name, so
``import outstride`` has to bring them. They are registered when the first is asked for: until then neither
torch is imported for their sake, nor the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _AfterTorch:
    """Stands before torch's import once, and promises the operators after it."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders say of torch; nothing of any other module."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _promise()

            loader.exec_module = exec_module
        return spec


def promise_operators() -> None:
    """See to it that ``torch.ops.outstride`` registers the operators when it is asked for one."""
    if hasattr(sys.modules.get("torch"), "ops"):
        _promise()
    else:
        sys.meta_path.insert(0, _AfterTorch())


def _promise() -> None:
    torch: Any = sys.modules["torch"]
    namespace: type = type(torch.ops.aten)

    class Operators(namespace):  # type: ignore[misc]  # torch names it in private alone
        """The namespace ``torch.ops.outstride``."""

        __module__ = namespace.__module__  # which the names of operators begin with

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_"):
                import_module("outstride.engine.dispatch.register")
            return super().__getattr__(name)

    torch.ops.outstride = Operators("outstride")
