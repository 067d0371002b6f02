"""The exceptions of the package: each is also the built-in family that torch raises in the same place."""

from __future__ import annotations


class OutstrideError(Exception):
    """Every exception that this package raises on purpose."""


class ArgumentError(OutstrideError, ValueError):
    """An argument has no meaning for the layer it should describe (torch: ValueError in a constructor)."""


class ShapeError(OutstrideError, RuntimeError):
    """The sizes or arguments of a call do not fit each other (torch: RuntimeError at call time)."""


class DTypeError(OutstrideError, RuntimeError):
    """The element types or devices of a call do not fit each other (torch: RuntimeError at call time)."""


class CompileError(OutstrideError, RuntimeError):
    """A generated kernel could not be compiled, loaded or started on this machine."""


class UnsupportedError(OutstrideError, NotImplementedError):
    """The request has a meaning, but this part of the package does not serve it."""
