"""Steps: what is done to a finished sum, one operation on a value each, as torch computes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Literal

#: How an operand lies: a number for each output channel, or one for each element of the result. None: it is
#: left out.
OperandForm = Literal["channel", "tensor"]


@dataclass(frozen=True)
class _Kind:
    """What steps of a kind take: how many numbers, and of each operand the forms that it may have."""

    numbers: int = 0
    operands: tuple[tuple[OperandForm | None, ...], ...] = ()


#: Operations of two values: the other one is a number, a vector over channels or a tensor.
_OF_TWO = ("add", "subtract", "multiply", "divide")
_KINDS = {
    "batch_norm": _Kind(1, (("channel",), ("channel",), ("channel", None), ("channel", None))),
    "relu": _Kind(),
    "leaky_relu": _Kind(1),
    "hardtanh": _Kind(2),
    "hardswish": _Kind(),
    "hardsigmoid": _Kind(),
    "prelu": _Kind(0, (("channel",),)),
    "abs": _Kind(),
    "neg": _Kind(),
    "square": _Kind(),
    "silu": _Kind(),
    "sigmoid": _Kind(),
    "elu": _Kind(3),
    "gelu": _Kind(),
    "gelu_by_series": _Kind(),
}
#: The kinds of steps. What torch computes by one routine in vectors and by another at their ends is one only
#: where all of a tensor lies in vectors.
KINDS = (*_KINDS, *_OF_TWO)
#: Kinds that torch computes by a routine for vectors, and by another for elements that fill none.
IN_VECTORS = frozenset(("silu", "sigmoid", "elu"))
#: Kinds that are what torch computes of contiguous tensors, and of others by another routine: gelu with
#: AVX-512, and with AVX2.
CONTIGUOUS = frozenset(("gelu", "gelu_by_series"))
#: Kinds whose result is one of the values that it came from, so that there is nothing to round.
EXACT = frozenset(("relu", "hardtanh", "abs", "neg"))


@dataclass(frozen=True)
class Step:
    """One operation on a value, with torch's own bits.

    `numbers` are its constants: the eps of "batch_norm", the slope of "leaky_relu", the least and the
    greatest of "hardtanh" (either may be None: no bound), alpha, scale and scale of the input of "elu" (the
    last above zero), the other value of "add", "subtract", "multiply" and "divide" where that is a number.
    `operands` say how its operands lie, which come with each call: mean, variance, weight and bias of
    "batch_norm", the slopes of "prelu", the other value of the four.

    Raises:
        ValueError: if there is no such kind, or it takes other numbers or operands.
    """

    kind: str
    numbers: tuple[float | None, ...] = ()
    operands: tuple[OperandForm | None, ...] = ()
    #: Whether every element is to be what torch's vectors make of it, in tensors that do not fill them, too.
    filled: bool = False
    #: The numbers by their bits, for 0.0 equals -0.0.
    exact: tuple[str | None, ...] = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = tuple(None if n is None else float(n) for n in self.numbers)
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "exact", tuple(None if n is None else n.hex() for n in numbers))
        object.__setattr__(self, "_hash", hash((self.kind, self.exact, self.operands, self.filled)))
        if self.kind not in KINDS:
            raise ValueError(f"'kind' must be that of a step: got {self.kind!r}; legal: {', '.join(KINDS)}")
        if not self._is_legal():
            raise ValueError(
                f"a step {self.kind!r} does not take numbers={self.numbers!r}, operands={self.operands!r}; "
                f"legal: {self._legal()}"
            )

    def __hash__(self) -> int:
        return self._hash  # every fused call looks something up by its steps

    def _is_legal(self) -> bool:
        missing = sum(n is None for n in self.numbers)
        if any(n is not None and isnan(n) for n in self.numbers):
            return False
        if self.kind in _OF_TWO:
            if self.numbers:
                return len(self.numbers) == 1 and not missing and not self.operands
            return len(self.operands) == 1 and None not in self.operands
        kind = _KINDS[self.kind]
        if len(self.numbers) != kind.numbers or len(self.operands) != len(kind.operands):
            return False
        if missing > (1 if self.kind == "hardtanh" else 0):
            return False
        if self.kind == "elu" and not self.numbers[2] > 0:  # type: ignore[operator]
            return False
        return all(have in may for have, may in zip(self.operands, kind.operands, strict=True))

    def _legal(self) -> str:
        if self.kind in _OF_TWO:
            return "one number, or one operand, 'channel' or 'tensor'"
        kind = _KINDS[self.kind]
        numbers = f"{kind.numbers or 'no'} number{'' if kind.numbers == 1 else 's'}, "
        numbers += "the last above zero" if self.kind == "elu" else "never NaN"
        forms = ["/".join(str(form) for form in forms) for forms in kind.operands]
        return f"{numbers}, operands ({', '.join(forms)})"

    @property
    def keeps_zero(self) -> bool:
        """Whether it gives 0 for 0, of either sign, and has no operand: then it may be done to an input.

        An element is read several times, so what takes long, as an exponential does, is none of them.
        """
        number = self.numbers[0] if self.numbers else None
        if self.kind == "hardtanh":
            low, high = self.numbers
            return (low is None or low <= 0.0) and (high is None or high >= 0.0)
        if self.kind == "leaky_relu":
            return number is not None and isfinite(number)
        return self.kind in ("relu", "abs", "neg", "square", "hardswish")

    @property
    def has_ends(self) -> bool:
        """Whether torch makes something else of elements that fill none of its vectors."""
        return self.kind in IN_VECTORS and not self.filled

    @property
    def is_of_contiguous(self) -> bool:
        """Whether torch computes it in this way of contiguous tensors alone."""
        return self.kind in CONTIGUOUS

    @property
    def given(self) -> tuple[OperandForm, ...]:
        """The forms of the operands that come with a call."""
        return tuple(form for form in self.operands if form is not None)


def steps_name(steps: Sequence[Step]) -> str:
    """A name for steps: their kinds, and a digest of all that they are; nothing where there are none."""
    if not steps:
        return ""
    stems = "_".join(step.kind.replace("_", "") for step in steps)
    told = repr([(step.kind, step.exact, step.operands) for step in steps])
    return f"_{stems}_{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def operand_forms(steps: Sequence[Step]) -> tuple[OperandForm, ...]:
    """The forms of all operands that come with a call, in the order of the steps."""
    return tuple(form for step in steps for form in step.given)
