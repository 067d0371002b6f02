"""Answers as rows of cells, for the command line and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable

from outstride.geometry.solver.chain import ChainSolution
from outstride.geometry.solver.solution import Solution

HEAD = ("#", "layer", "sizes", "shift", "taps", "seams", "multiply-adds", "torch", "Keras", "ONNX")
CHAIN_HEAD = ("size", "layer", "stride so far", "drift", "proof")


def cells(number: int, found: Solution) -> tuple[str, ...]:
    """One answer in a row under ``HEAD``."""
    taps = ("holes" if 0 in share else "even" if len(set(share)) == 1 else "uneven" for share in found.shares)
    return (
        str(number),
        repr(found.spec),
        f"{found.law}{'' if found.exact else ' (here)'}",
        _joined(map(str, found.shift)),
        _joined(taps),
        "overlap" if found.overlaps else "side by side",
        f"{found.multiply_adds:,}",
        *(verdict.mark for verdict in found.frameworks.values()),
    )


def chain_cells(found: ChainSolution) -> list[tuple[str, ...]]:
    """The levels of a chain in rows under ``CHAIN_HEAD``, the input first."""
    rows: list[tuple[str, ...]] = [("x".join(map(str, found.sizes[0])), "input", "1", "0", "")]
    for size, step, scale, drift in zip(
        found.sizes[1:], found.steps, found.scales[1:], found.drift[1:], strict=True
    ):
        layer, proof = repr(step.spec), "; ".join(step.proof)
        rows.append(
            ("x".join(map(str, size)), layer, _joined(map(str, scale)), _joined(map(str, drift)), proof)
        )
    return rows


def _joined(texts: Iterable[str]) -> str:
    rows = list(texts)
    return rows[0] if len(set(rows)) == 1 else ", ".join(rows)
