"""The libraries that compete, by name: what each needs, and where the code that calls it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any

from outstride.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from outstride.bench.work import Work


#: Layers of weights that nobody writes to.
FROZEN = "outstride_frozen"


@dataclass(frozen=True)
class Form:
    """One way in which a library can do a piece of work: `run` is timed, `read` gives what it computed.

    `plan` says what was chosen to run, where the library tells; `direct` gives the same results by the direct
    chain, where they come from short algorithms.
    """

    name: str
    run: Callable[[], Any]
    read: Callable[[Any], tuple[Tensor, ...]]
    plan: dict[str, Any] | None = None
    direct: Callable[[], tuple[Tensor, ...]] | None = None


@dataclass(frozen=True)
class Contender:
    """A library and how it is called; `ours` marks this package's own rows.

    `also` says what it is timed on beyond float32 inference: "training", "dtypes"; `of` what is timed at all:
    "layers", "models".
    """

    name: str
    short: str
    words: str
    module: str
    packages: tuple[str, ...] = ()
    ours: bool = False
    also: tuple[str, ...] = ()
    of: tuple[str, ...] = ("layers", "models")

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        absent = [package for package in self.packages if find_spec(package) is None]
        if absent:
            return f"{', '.join(absent)} not installed: pip install 'outstride[peers]'"
        if self.name == "torch_compile" and which("g++") is None and which("clang++") is None:
            return "no C++ compiler found, which torch.compile needs"
        return _no_backend("outstride") if self.name == "outstride_compile" else None

    def forms(self, work: Work, threads: int) -> Iterator[Form]:
        """The ways in which it can do this work; the fastest is timed."""
        forms: Iterator[Form] = import_module(self.module).forms(self.name, work, threads)
        return forms

    def any_length(self, work: Work, threads: int) -> Callable[[Tensor], Any]:
        """The same layer as a call that takes an input of any length."""
        module = import_module(self.module)
        if not hasattr(module, "any_length"):
            raise UnsupportedError(f"{self.name} is not timed on changing lengths")
        call: Callable[[Tensor], Any] = module.any_length(self.name, work, threads)
        return call


@cache
def _no_backend(name: str) -> str | None:
    """Why torch.compile has no backend of this name, or None; asking loads the compiler."""
    compiler = import_module("torch._dynamo")
    if name not in compiler.list_backends(()):
        return f"torch.compile knows no backend {name!r}"
    try:
        compiler.lookup_backend(name)
    except ImportError as error:
        return f"torch.compile cannot load the backend {name!r}: {error}"
    return None


_HERE, _OURS = "outstride.bench.contenders", ("outstride.nn",)
_EAGER = f"{_HERE}.eager"
_ALSO = ("training", "dtypes")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("outstride", "ours", "contiguous (NCHW)", _EAGER, _OURS, ours=True, also=_ALSO),
        Contender(
            "outstride_channels_last", "ours/last", "channels_last", _EAGER, _OURS, ours=True, also=_ALSO
        ),
        Contender(
            FROZEN,
            "ours/frozen",
            "accelerate(layer, frozen=True): weights not looked at, as peers' prepacked ones are not",
            _EAGER,
            _OURS,
            ours=True,
            also=("dtypes",),
            of=("layers",),
        ),
        Contender(
            "outstride_compile",
            "ours/compiled",
            'torch.compile(model, backend="outstride"), frozen, without guards of modules',
            f"{_HERE}.compiled",
            _OURS,
            ours=True,
            also=_ALSO,
            of=("models",),
        ),
        Contender("torch", "torch", "eager, contiguous (NCHW): as most call it", _EAGER, also=_ALSO),
        Contender("torch_channels_last", "torch/last", "eager, channels_last", _EAGER, also=_ALSO),
        Contender(
            "torch_compile",
            "compile",
            "torch.compile, frozen: weights prepacked, without guards of modules",
            f"{_HERE}.compiled",
            also=("dtypes",),
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
            ("openvino", "onnx"),
        ),
        Contender(
            "jax",
            "jax",
            "jax.jit, input and weights on the device",
            f"{_HERE}.jax_program",
            ("jax",),
            of=("layers",),
        ),
        Contender(
            "mnn",
            "mnn",
            "2-d, high precision; Winograd inside",
            f"{_HERE}.mnn_session",
            ("MNN", "onnx"),
            of=("layers",),
        ),
    )
}


def installed(training: bool = False, dtype: str = "float32", of: str = "layers") -> list[str]:
    """The contenders that can do this kind of work here, outstride first and torch next."""
    return [
        name
        for name, contender in CONTENDERS.items()
        if of in contender.of
        and ("training" in contender.also or not training)
        and ("dtypes" in contender.also or dtype == "float32")
        and contender.missing() is None
    ]


def choose(
    names: Sequence[str], training: bool = False, dtype: str = "float32", of: str = "layers"
) -> list[str]:
    """The named contenders in their own order, or all that can run here where none is named."""
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise ArgumentError(f"'contenders' must be of {', '.join(CONTENDERS)}: got {unknown[0]!r}.")
    for name in names:
        if of not in CONTENDERS[name].of:
            raise ArgumentError(
                f"'contenders' must be timed on {of}: got {name!r}, which is timed on "
                f"{' and '.join(CONTENDERS[name].of)} alone."
            )
        reason = CONTENDERS[name].missing()
        if reason is not None:
            raise ArgumentError(f"'contenders' must be able to run here: got {name!r} ({reason}).")
    able = installed(training, dtype, of)
    chosen = [name for name in able if not names or name in names]
    if not chosen:
        what = "train" if training else f"compute in {dtype}"
        raise ArgumentError(f"'contenders' must be able to {what}: got {', '.join(names)}.")
    return chosen


def absentees(of: str = "layers") -> dict[str, str]:
    """The contenders for this kind of work that cannot run here, each with the reason."""
    reasons = {name: contender.missing() for name, contender in CONTENDERS.items() if of in contender.of}
    return {name: reason for name, reason in reasons.items() if reason is not None}
