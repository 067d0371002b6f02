"""What a rule sees: an operation that a walk has come to, its lineages, and where it notes what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from outstride.inspection.broadcasting import Place, broadcast
from outstride.inspection.lineage import Lineage
from outstride.models.call import Call

NoteKind = Literal["whole", "misaligned", "wraps", "unknown"]
Result = Lineage | None | Sequence[Lineage | None]


class NotUnderstoodError(Exception):
    """A rule cannot say where the elements come from; the message says why."""


@dataclass(frozen=True)
class Note:
    """What is worth knowing of one operation, apart from its figures.

    ``kind`` is "whole" (every element reads the whole of these axes), "misaligned" (tensors meet whose
    positions differ, per axis in ``places``), "wraps" (the border reads the far side) or "unknown".
    """

    kind: NoteKind
    call: int
    text: str
    axes: tuple[int, ...] = ()
    places: dict[int, tuple[Place, ...]] = field(default_factory=dict)


@dataclass
class Visit:
    """One operation that a walk has come to, with the lineages of its tensors."""

    call: Call
    index: int
    known: Callable[[Tensor], Lineage | None]
    notes: list[Note]
    is_comb: Callable[[Tensor], bool] = lambda _: False
    """Whether a tensor is every n-th position of another."""

    def lineage(self, tensor: Any) -> Lineage | None:
        """Where the elements of an argument come from; None for a constant, and for what is no tensor."""
        return self.known(tensor) if isinstance(tensor, Tensor) else None

    @property
    def source(self) -> Lineage:
        """The first argument's lineage, where only that depends on the input.

        Raises:
            NotUnderstoodError: it does not, but another argument does.
        """
        found = self.lineage(self.call.args[0])
        if found is None:
            raise NotUnderstoodError("the image comes in by another argument than the first")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return self.call.result_shape()

    @property
    def results(self) -> int:
        """Number of results."""
        return len(self.call.outputs)

    def sees_all(self, axes: frozenset[int], text: str) -> None:
        """Note that whole axes of the image are read."""
        if axes:
            self.notes.append(Note("whole", self.index, text, tuple(sorted(axes))))

    def wraps(self, text: str) -> None:
        """Note that the border reads the far side of the image."""
        self.notes.append(Note("wraps", self.index, text))

    def broadcast(self, lineages: Sequence[Lineage], shape: Sequence[int], silent: bool = False) -> Lineage:
        """Let tensors meet element by element, and note where their positions differ.

        Raises:
            NotUnderstoodError: their positions do not match.
        """
        found = broadcast(lineages, shape)
        if found is None:
            raise NotUnderstoodError("positions along different axes of the image meet")
        if found.misaligned and not silent:
            axes = tuple(found.misaligned)
            text = "inputs of different stride or centre meet"
            self.notes.append(Note("misaligned", self.index, text, axes, found.misaligned))
        return found.result


def known(found: Lineage | None) -> Lineage:
    """What taking positions elsewhere gave.

    Raises:
        NotUnderstoodError: it gave nothing.
    """
    if found is None:
        raise NotUnderstoodError("an axis that joins several of the image's is cut where no position ends")
    return found


RuleTable = dict[type, Callable[[Any, Any], Result]]
"""By the kind of operator: what its visit and its description make of the lineages."""
