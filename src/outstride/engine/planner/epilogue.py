"""The epilogue: what becomes of a finished sum before it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from outstride.engine.planner.steps import OperandForm, Step, operand_forms, steps_name


@dataclass(frozen=True)
class Epilogue:
    """What is done to a whole sum, in the order of the fields; its operands come with each call.

    A kernel is specialised on it. Code generation applies it in one place, `codegen.epilogue`, to sums over
    all channels and taps alone (law 4). The sum with its bias is rounded to the type of the output, and so is
    what each step makes of it: as torch's operators would, one after the other.
    """

    #: Whether a bias for each output channel is added. A call of a kernel that adds one may leave it out.
    bias: bool = True
    #: What is done behind it. Register tiles, which all kernels share, know of none.
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from others in the names of kernels: nothing where only a bias is added."""
        return ("" if self.bias else "_nobias") + steps_name(self.steps)

    @cached_property
    def forms(self) -> tuple[OperandForm, ...]:
        """How the operands of its steps lie."""
        return operand_forms(self.steps)

    @property
    def reads_tensors(self) -> bool:
        """Whether some step has an operand for each element of the result."""
        return "tensor" in self.forms


#: A bias, and nothing else.
BIAS = Epilogue()
