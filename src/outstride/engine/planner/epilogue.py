"""The epilogue: what becomes of a finished sum before it is rounded once and stored."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Epilogue:
    """What is done to a whole sum, in the order of the fields; its operands come with each call.

    A kernel is specialised on it. Code generation applies it in one place, `codegen.epilogue`, to sums over
    all channels and taps alone (law 4), and what it gives is rounded once, to the type of the output.
    """

    #: Whether a bias for each output channel is added. A call of a kernel that adds one may leave it out.
    bias: bool = True

    @property
    def name(self) -> str:
        """What tells it from others in the names of kernels: nothing where only a bias is added."""
        return "" if self.bias else "_nobias"

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias at most: register tiles, which all kernels share, can add one themselves."""
        return replace(self, bias=True) == BIAS


#: A bias, and nothing else.
BIAS = Epilogue()
