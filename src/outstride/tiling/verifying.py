"""``verify``: where somebody's own tiling differs from the whole, and which seams it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from outstride.acceleration import accelerate
from outstride.errors import ArgumentError
from outstride.output.tables import html_text
from outstride.tiling.inputs import Inputs
from outstride.tiling.running import check_model, sliding_axes, spatial_axes

#: Units of the last place, of the largest value, up to which differences are taken for rounding.
ROUNDING = 1024
#: A position is named if its difference is no more than so many times smaller than the largest.
_FAINT = 16
_MOST_LINES = 8


@dataclass(frozen=True)
class Verdict:
    """What a comparison found; true where every bit agrees."""

    elements: int
    different: int
    largest: float
    """Largest difference."""
    scale: float
    """Largest absolute value of the whole's result."""
    first: tuple[int, ...] | None
    """The first element that differs."""
    lines: tuple[tuple[int, ...], ...]
    """For each of the last axes the positions with the largest differences, at most eight."""
    rounding: bool
    """Whether nothing differs by more than what sums in another order do."""
    name: str = ""
    """Of several results the one in which the first element differs."""

    def __bool__(self) -> bool:
        return self.different == 0

    def to_dict(self) -> dict[str, Any]:
        """The figures, for a program to read."""
        return {
            "exact": bool(self), "elements": self.elements, "different": self.different,
            "largest": self.largest, "scale": self.scale,
            "rounding": self.rounding, "first": None if self.first is None else list(self.first),
            "lines": [list(x) for x in self.lines], "name": self.name,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        if self:
            return f"every bit of {self.elements} elements agrees with the whole"
        found = f"{self.different} of {self.elements} elements differ from the whole"
        size = f"by {self.largest:.3g} at most where the largest value is {self.scale:.3g}"
        of = f" of {self.name}" if self.name else ""
        rows = [f"{found}, {size}; the first at {self.first}{of}"]
        if self.rounding:
            return (
                f"{rows[0]}\nno more than rounding: torch's own layers do; those of accelerate(model) only "
                "where a part\nbegins within a cell of a short algorithm, and not with algorithm='direct'"
            )
        rows += [
            f"  axis {axis - len(self.lines)}: largest at {', '.join(map(str, positions))}"
            for axis, positions in enumerate(self.lines)
        ]
        return "\n".join(rows)


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """What was found of several results: sums, the largest, and the first that differs."""
    if len(verdicts) == 1:
        return verdicts[0]
    wrong = [found for found in verdicts if not found]
    largest = max(verdicts, key=lambda found: found.largest)
    return Verdict(
        sum(found.elements for found in verdicts), sum(found.different for found in verdicts),
        largest.largest, largest.scale, wrong[0].first if wrong else None, (),
        all(found.rounding for found in verdicts), wrong[0].name if wrong else "",
    )  # fmt: skip


def verify(fn: Callable[..., Tensor], model: torch.nn.Module, input: Any) -> Verdict:
    """Compare a tiled computation of a model with the model on the whole input.

    Args:
        fn: what computes the model in tiles, from the whole input to the whole result; it is called as the
            model is.
        model: the model, in inference mode; its convolutions are computed as in ``accelerate(model)``.
        input: (N, C, *size), small enough for the whole to run; of a model with several inputs a tuple of
            its arguments, or a dict by their names.

    Returns:
        A ``Verdict``: true if every bit agrees; printed, it says where the result differs, and along which
        rows and columns, which is where the seams are.

    Raises:
        ArgumentError: ``fn`` returns another shape than the model.

    Example:
        >>> model = torch.nn.Conv2d(1, 1, 3, padding=1)
        >>> halves = lambda x: torch.cat([model(x[..., :8]), model(x[..., 8:])], dim=-1)
        >>> print(verify(halves, model, torch.ones(1, 1, 4, 16)).lines[-1])
        (7, 8)
    """
    check_model(model)
    if not callable(fn):
        raise ArgumentError(f"'fn' must be a function of the input: got {type(fn).__name__}; legal: any")
    inputs = Inputs.of(input)
    args, kwargs = inputs.call(inputs.leaves)
    with torch.inference_mode():
        expected = accelerate(model)(*args, **kwargs)
        got: Any = fn(*args, **kwargs)
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise ArgumentError(
            f"'fn' must return what the model does: got {shape}; legal: a tensor of {tuple(expected.shape)}"
        )
    same = (got == expected) | (got.isnan() & expected.isnan())
    wrong = ~same
    distances = (got.double() - expected.double()).abs().nan_to_num(torch.inf)
    first = tuple(int(i) for i in wrong.nonzero()[0]) if bool(wrong.any()) else None
    main = inputs.leaves[inputs.main(sliding_axes(model))]
    nd = min(spatial_axes(model, main.shape), expected.dim())
    largest = float(distances[wrong].max()) if first else 0.0
    scale = float(expected.double().abs().max()) if expected.numel() else 0.0
    axes = range(expected.dim() - nd, expected.dim())
    return Verdict(
        expected.numel(), int(wrong.sum()), largest, scale, first,
        tuple(_worst(distances, axis) for axis in axes) if first else ((),) * nd,
        largest <= ROUNDING * _unit(expected.dtype) * scale,
    )  # fmt: skip


def _worst(distances: Tensor, axis: int) -> tuple[int, ...]:
    most = distances.amax([other for other in range(distances.dim()) if other != axis])
    best = torch.argsort(most, descending=True, stable=True)[:_MOST_LINES]
    return tuple(sorted(int(i) for i in best if most[i] * _FAINT > most[best[0]]))


def _unit(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
