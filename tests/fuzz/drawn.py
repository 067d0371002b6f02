"""What one case of the fuzzer is, and the one line of JSON from which it can be played again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from tests.cases import Case
from tests.environments import Environment
from tests.guard import Edge

#: "reals" are judged by law 1 and their bits, "integers" exactly, "special" by where NaN and Inf arrive, and
#: the "empty", which have no input or no output, by what torch answers.
VALUES = ("reals", "integers", "special", "empty")
#: Half of all layers take a short algorithm wherever there is one; "auto" as the rule has it.
ALGORITHMS = ("short", "short", "direct", "auto")
DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Setting:
    """Under which plans a case runs, and how its operands lie in memory."""

    instruction_set: str
    threads: int
    input: str = "contiguous"
    weight: str = "contiguous"
    grad_output: str = "contiguous"
    bias: str = "contiguous"

    @property
    def environment(self) -> Environment:
        return Environment(self.instruction_set, self.threads)


@dataclass(frozen=True)
class Drawn:
    """A layer on one size, its values, and two settings whose results must have the same bits.

    `special` names the operands that hold NaN and infinities; `seed` is that of all values. With an `edge`
    the operands lie flush against memory that no one may touch, before their start or after their end, and
    all that the engine makes for itself does.
    """

    case: Case
    dtype: str
    values: str
    seed: int
    here: Setting
    there: Setting
    special: tuple[str, ...] = field(default=())
    edge: Edge | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def line(self) -> str:
        """The case as one line of JSON, without what is as usual."""
        usual = {f.name: f.default for f in fields(Case)}
        case = {k: v for k, v in asdict(self.case).items() if k != "id" and (k not in usual or usual[k] != v)}
        rest = {k: v for k, v in asdict(self).items() if k != "case"}
        return json.dumps(case | rest, separators=(",", ":"))


def parse(line: str) -> Drawn:
    """The case that `Drawn.line` wrote."""
    given: dict[str, Any] = {k: _tuples(v) for k, v in json.loads(line).items()}
    own = {f.name for f in fields(Drawn)} - {"case"}
    here, there = (Setting(**given.pop(name)) for name in ("here", "there"))
    rest: dict[str, Any] = {name: given.pop(name) for name in own & given.keys()}
    return Drawn(Case(id="fuzz", **given), here=here, there=there, **rest)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
