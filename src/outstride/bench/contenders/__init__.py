"""The libraries that compete, by name: what each needs, and where the code that calls it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any

from outstride.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from outstride.bench.work import Work


@dataclass(frozen=True)
class Form:
    """One way in which a library can do a piece of work: `run` is timed, `read` gives what it computed."""

    name: str
    run: Callable[[], Any]
    read: Callable[[Any], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Contender:
    """A library and how it is called; `ours` marks this package's own rows."""

    name: str
    short: str
    words: str
    module: str
    packages: tuple[str, ...] = ()
    ours: bool = False
    training: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        absent = [package for package in self.packages if find_spec(package) is None]
        if absent:
            return f"{', '.join(absent)} not installed: pip install 'outstride[peers]'"
        if self.name == "torch_compile" and which("g++") is None and which("clang++") is None:
            return "no C++ compiler found, which torch.compile needs"
        return None

    def forms(self, work: Work, threads: int) -> Iterator[Form]:
        """The ways in which it can do this work; the fastest is timed."""
        forms: Iterator[Form] = import_module(self.module).forms(self.name, work, threads)
        return forms

    def any_length(self, work: Work, threads: int) -> Callable[[Tensor], Any]:
        """The same layer as a call that takes an input of any length."""
        call: Callable[[Tensor], Any] = import_module(self.module).any_length(self.name, work, threads)
        return call


_HERE, _OURS = "outstride.bench.contenders", ("outstride.nn",)
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            "outstride", "ours", "contiguous (NCHW)", f"{_HERE}.eager", _OURS, ours=True, training=True
        ),
        Contender(
            "outstride_channels_last",
            "ours/last",
            "channels_last",
            f"{_HERE}.eager",
            _OURS,
            ours=True,
            training=True,
        ),
        Contender(
            "torch", "torch", "eager, contiguous (NCHW): as most call it", f"{_HERE}.eager", training=True
        ),
        Contender(
            "torch_channels_last", "torch/last", "eager, channels_last", f"{_HERE}.eager", training=True
        ),
        Contender(
            "torch_compile", "compile", "torch.compile, frozen: weights prepacked", f"{_HERE}.compiled"
        ),
        Contender(
            "onnxruntime",
            "ort",
            "session with bound input and output",
            f"{_HERE}.onnxruntime_session",
            ("onnxruntime", "onnx"),
        ),
        Contender(
            "openvino",
            "openvino",
            "float32, bound input and output",
            f"{_HERE}.openvino_request",
            ("openvino",),
        ),
        Contender("jax", "jax", "jax.jit, input and weights on the device", f"{_HERE}.jax_program", ("jax",)),
        Contender(
            "mnn", "mnn", "2-d, high precision; Winograd inside", f"{_HERE}.mnn_session", ("MNN", "onnx")
        ),
    )
}


def installed(training: bool = False) -> list[str]:
    """The contenders that can run here, outstride first and torch next."""
    return [
        name
        for name, contender in CONTENDERS.items()
        if contender.missing() is None and (contender.training or not training)
    ]


def choose(names: Sequence[str], training: bool = False) -> list[str]:
    """The named contenders in their own order, or all that can run here where none is named."""
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise ArgumentError(f"'contenders' must be of {', '.join(CONTENDERS)}: got {unknown[0]!r}.")
    for name in names:
        reason = CONTENDERS[name].missing()
        if reason is not None:
            raise ArgumentError(f"'contenders' must be able to run here: got {name!r} ({reason}).")
    able = installed(training)
    chosen = [name for name in able if not names or name in names]
    if not chosen:
        raise ArgumentError(f"'contenders' must be able to train: got {', '.join(names)}.")
    return chosen


def absentees() -> dict[str, str]:
    """The contenders that cannot run here, each with the reason."""
    reasons = {name: contender.missing() for name, contender in CONTENDERS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}
