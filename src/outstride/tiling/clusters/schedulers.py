"""The scheduler that a run is given to: whether it answers, and whether its workers compute the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from platform import python_version
from typing import Any

import torch

from outstride.errors import ArgumentError, UnsupportedError
from outstride.tiling.quiet import silent

#: Seconds that a scheduler and its first worker are waited for.
_PATIENCE = 10
#: What has to be the same on workers, for the same bits.
_PACKAGES = ("outstride", "torch")
#: Loggers that say again what is said in one sentence.
_LOGGERS = ("distributed.client", "distributed.core", "distributed.comm.core")


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """A client of a scheduler.

    Raises:
        ArgumentError: none answers at this address.
        UnsupportedError: ``distributed`` is not installed.
    """
    if find_spec("distributed") is None:
        raise UnsupportedError("a scheduler needs dask.distributed: pip install 'outstride[distributed]'.")
    from distributed import Client

    with silent(*_LOGGERS):
        try:
            client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ArgumentError(
                f"'scheduler' must be the address of a Dask scheduler that answers: got {scheduler!r} "
                f"({said}); legal: such as tcp://127.0.0.1:8786, where `dask scheduler` runs"
            ) from error
        with client:
            yield client


def checked(client: Any, scheduler: str) -> tuple[dict[str, int], Sequence[str]]:
    """Tasks that each worker takes at a time, and what is to be said of workers that compute otherwise.

    Raises:
        ArgumentError: there are no workers.
        UnsupportedError: one has other versions, or none, of what decides about bits.
    """
    import distributed

    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except distributed.TimeoutError:
        raise ArgumentError(
            f"'scheduler' must have workers: got {scheduler!r} with none within {_PATIENCE} s; "
            f"legal: one or more, by `dask worker {scheduler}`"
        ) from None
    # Functions that every Python has, so that a worker without this package can say so.
    _check_same(client, "Python", python_version)
    for package in _PACKAGES:
        _check_same(client, package, version, package)
    capability = torch.backends.cpu.get_cpu_capability
    others = {*client.run(capability).values()} - {capability()}
    note = (
        f"torch computes by {', '.join(sorted(others))} on workers and by {capability()} here: bits of its "
        "own functions may differ, unless ATEN_CPU_CAPABILITY is one for all"
    )
    return client.nthreads(), [note] if others else []


def _check_same(client: Any, name: str, question: Callable[..., str], *arguments: str) -> None:
    here = _release(name, question(*arguments))
    for worker, there in client.run(question, *arguments, on_error="return").items():
        if _release(name, there) != here:
            got = f"none on {worker}" if isinstance(there, Exception) else f"{there} on {worker}"
            raise UnsupportedError(
                f"'scheduler' must have workers with the same {name}: got {got}; legal: {here}, as here"
            )


def _release(name: str, version: object) -> str:
    """What has to agree of a version: of Python's not the last part."""
    return str(version).rpartition(".")[0] if name == "Python" else str(version)
