"""What a law is played on: a case, an algorithm, an instruction set and a dtype, an item of the tests each.

By short algorithms are played those cases alone of which a contraction is short where all are that can be.
Each has kernels of its own to compile: about half of them are always played, with every option among them. A
law that costs much for what it finds is played under one instruction set for each case, always the same, and
under the others in the long run; so are all by short algorithms, and in all dtypes but the law's first. Of
the narrow dtypes every second case has one: their kernels differ in how elements are read and written alone.
In float64, where a law has another type first, every second case is always played.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch

from outstride.engine import runtime
from tests.cases import CASES, Case
from tests.contract import verify_contract
from tests.environments import ALGORITHMS, everything_short, one_of
from tests.roundings import GATHERS, is_short

NARROW = (torch.bfloat16, torch.float16)
#: Of so many cases one is always played by short algorithms, and each that is the first with one of these.
SHORT_SHARE = 2
_OPTIONS = ("operator nd stride", "padding_mode", "layout", "weight_layout", "batched", "bias", "groups")


@dataclass(frozen=True)
class Item:
    """One case under one instruction set, or of a law that compares all of them under none."""

    case: Case
    algorithm: str
    instruction_set: str | None
    dtype: torch.dtype
    #: Whether it waits for the long run.
    waits: bool = False

    def __str__(self) -> str:
        words = [str(self.dtype).removeprefix("torch."), self.case.id]
        words += ["short"] if self.algorithm == "short" else []
        return "-".join(words if self.instruction_set is None else [*words, self.instruction_set])

    def obeys(self, law: str) -> None:
        """Assert that it does."""
        verify_contract(self.case, law, self.dtype, self.instruction_set, self.algorithm)


def played(
    *dtypes: torch.dtype, slow: Sequence[torch.dtype] = (), cases: Sequence[Case] = CASES,
    algorithms: Sequence[str] = ALGORITHMS, spread: bool = False, compares_sets: bool = False,
    short_share: int = SHORT_SHARE,
) -> pytest.MarkDecorator:  # fmt: skip
    """The items of a law, as the argument `item` of its test (`conftest.py` hands them out).

    Args:
        dtypes, slow: those that are always played, of the narrow ones that of the case alone where it has
            one, and those that wait for the long run.
        cases, algorithms: what is played.
        spread: whether the direct chain of the first dtype, too, is played under one set for each case.
        compares_sets: whether the law itself goes over the instruction sets.
        short_share: of so many cases one is always played by short algorithms; in narrow dtypes it is one of
            four at most.
    """

    def items() -> Iterator[Item]:
        for algorithm in algorithms:
            for dtype in (*dtypes, *slow):
                for case in cases_of(algorithm, dtype, tuple(cases)):
                    for name in (None,) if compares_sets else runtime.available():
                        waits = dtype in slow or not is_usual_dtype(case, dtype, dtypes[0])
                        if name is not None and (spread or algorithm == "short" or dtype != dtypes[0]):
                            waits |= not is_usual(case, name)
                        if algorithm == "short":
                            share = max(short_share, 4) if dtype in NARROW else short_share
                            waits |= not is_usual_short(case, share)
                        yield Item(case, algorithm, name, dtype, waits)

    return pytest.mark.played(items=items)


def items_of(law: pytest.MarkDecorator | pytest.Mark) -> list[Item]:
    """All items of a law that was declared by `played`."""
    return list(law.kwargs["items"]())


def is_usual(case: Case, instruction_set: str) -> bool:
    """Whether the set is the one that a case is always played under."""
    return instruction_set == one_of(runtime.available(), case.id)


def is_usual_dtype(case: Case, dtype: torch.dtype, first: torch.dtype) -> bool:
    """Whether the case is always played in the dtype by a law that has another one first."""
    if dtype in NARROW:
        # Words as long as those of the other draws would give what depends on them alone: see zlib.crc32.
        return dtype == one_of((*NARROW, None, None), case.id, "narrow type")
    return dtype in (torch.float32, first) or one_of((True, False), case.id, "float64")


def is_usual_short(case: Case, share: int) -> bool:
    """Whether the case is always played by short algorithms, where one of so many is."""
    return one_of(range(share), case.id, "share") == 0 or (
        share == SHORT_SHARE and case in _first_with_options()
    )


@lru_cache
def _first_with_options() -> frozenset[Case]:
    """The cases that are the first with one of their options."""
    first: dict[tuple[object, ...], Case] = {}
    for each in cases_of("short", torch.float32):
        for names in _OPTIONS:
            first.setdefault((names, *(getattr(each, name) for name in names.split())), each)
    return frozenset(first.values())


@lru_cache
def cases_of(algorithm: str, dtype: torch.dtype, cases: tuple[Case, ...] = CASES) -> tuple[Case, ...]:
    """Those that are played by an algorithm."""
    if algorithm == "direct":
        return cases
    with everything_short():
        return tuple(_having_short(cases, dtype))


def _having_short(cases: Sequence[Case], dtype: torch.dtype) -> Iterator[Case]:
    for case in cases:
        if any(is_short(replace(case, algorithm="short"), name, dtype) for name in GATHERS):
            yield case
