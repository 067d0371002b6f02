"""The six functions, ``conv1d`` to ``conv_transpose3d``, and the calls that each has cached."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from outstride.engine.autograd.contractions import Conv, ConvTranspose
from outstride.engine.dispatch.call import Arguments, Call
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.guarded import GuardedCall
from outstride.engine.launch.resized import ResizedCalls


class CheckedCall(NamedTuple):
    """A checked call, the arguments that it was checked for, and its guarded calls.

    These are None where a call is more than a contraction, or its arguments may change under their identity.
    """

    call: Call
    arguments: Arguments
    guarded: list[GuardedCall] | None


class LatestCall(NamedTuple):
    """The latest guarded call with a weight, its arguments, and the calls with them at other sizes."""

    guarded: GuardedCall
    arguments: Arguments
    resized: ResizedCalls | None


class ConvFunction:
    """One of the six functions."""

    def __init__(self, nd: int, transposed: bool) -> None:
        self.nd = nd
        self.transposed = transposed
        self.contraction = ConvTranspose if transposed else Conv
        self.operator: Literal["conv", "conv_transpose"] = "conv_transpose" if transposed else "conv"
        #: The function of ``outstride.functional``, which puts it here.
        self.public: Any = None
        #: By the weight's identity.
        self.latest: CallCache[int, LatestCall] = CallCache("latest calls")
        #: By the tensors' shapes and the identities of the other arguments.
        self.checked: CallCache[tuple[Any, ...], CheckedCall] = CallCache("checked calls")
        #: By the checked call and the tensors' shapes: layers of equal ones share what is guarded.
        self.guarded: CallCache[tuple[Any, ...], list[GuardedCall]] = CallCache("guarded calls")


CONV = {nd: ConvFunction(nd, False) for nd in (1, 2, 3)}
CONV_TRANSPOSE = {nd: ConvFunction(nd, True) for nd in (1, 2, 3)}
