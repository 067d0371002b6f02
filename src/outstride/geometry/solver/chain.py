"""One answer for a chain of layers: where each level stands, and which sizes the whole is made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import Any, NamedTuple

from outstride.errors import ShapeError
from outstride.geometry.axes import SizesLike, sizes_of
from outstride.geometry.solver.choices import Choice, Question, made_size
from outstride.geometry.solver.solution import Solution
from outstride.output.tables import html_text


class Fit(NamedTuple):
    """How any size is made one that the chain is exact for: pad the input, run, crop the output.

    Per axis (low, high): ``pad`` in input pixels, ``crop`` in output pixels, where the chain returns to the
    input's size (else None).
    """

    input_size: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    crop: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True)
class ChainSolution:
    """Layers one after another, with what holds for the whole.

    Levels are the tensors between the layers: level 0 is the input, level l what layer l - 1 gives. Figures
    per level hold one entry per axis.
    """

    steps: tuple[Solution, ...]

    @property
    def nd(self) -> int:
        """Number of axes."""
        return self.steps[0].spec.nd

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The size of every level; for scales, those of the smallest input that the whole is exact for."""
        first = self.steps[0].input_size or self.fit((1,) * self.nd).input_size
        return tuple(zip(*(self._through(axis, first[axis]) for axis in range(self.nd)), strict=True))

    @cached_property
    def scales(self) -> tuple[tuple[Fraction, ...], ...]:
        """The stride so far of every level: input pixels from one element to the next."""
        found = [(Fraction(1),) * self.nd]
        for step in self.steps:
            factors = [Fraction(s) for s in step.spec.stride]
            if step.spec.kind == "conv_transpose":
                factors = [1 / s for s in factors]
            found.append(tuple(a * b for a, b in zip(found[-1], factors, strict=True)))
        return tuple(found)

    @property
    def drift(self) -> tuple[tuple[Fraction, ...], ...]:
        """How far the middle of every level lies from the input's, in input pixels.

        A convolution's element j sits at the position s * j - low + (window - 1) / 2 of the level before; a
        transposed layer's output u stands where (u + low - (window - 1) / 2) / s was. Both are carried back
        to the input as a * j + b, with a the stride so far. Half a pixel lost on the way down can come back
        on the way up: kernel 3, stride 2, padding 1 down and the same with output_padding 1 up drift by 1/2
        and return to 0.
        """
        columns = [self._drift(axis, [size[axis] for size in self.sizes]) for axis in range(self.nd)]
        return tuple(zip(*columns, strict=True))

    @property
    def period(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Per axis (M, residues): the chain is exact for n whenever n modulo M is one of the residues.

        Exact means that levels of the same stride so far have the same size, so that they can be joined;
        where no two levels have, that the last size times its stride so far differs from n by as much as in
        the question. By the law of ``merits.misfit`` adding M to n adds whole numbers to the size of every
        level, M being the least common multiple of the numerators of the strides so far; so a residue holds
        for ever or never.
        """
        return tuple((self._modulus(axis), self._residues(axis)) for axis in range(self.nd))

    def fit(self, input_size: SizesLike) -> Fit:
        """Say how to pad an input of any size, and crop what comes out.

        Args:
            input_size: elements per axis, at least 1; one number stands for every axis.

        Returns:
            The next size at or above it that the chain is exact for, with the padding that leads there, the
            odd element on the high side, and the same crop where the chain returns to its input's size.

        Raises:
            ShapeError: no size at or above it is exact, or a size is below 1.

        Example:
            >>> from outstride.geometry import solve_chain
            >>> solve_chain(scales=["1/2", "1/2", 2, 2])[0].fit(29).pad
            ((1, 2), (1, 2))
        """
        wanted = sizes_of(self.steps[0].spec, "input_size", input_size)
        if min(wanted) < 1:
            raise ShapeError(f"'input_size' must be at least 1 on every axis: got {wanted}; legal: 1 or more")
        size = tuple(self._next_exact(axis, n) for axis, n in enumerate(wanted))
        pad = tuple(((to - n) // 2, to - n - (to - n) // 2) for n, to in zip(wanted, size, strict=True))
        returns = all(scale == 1 for scale in self.scales[-1])
        return Fit(size, pad, pad if returns else None)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers together; for scales, for the sizes that ``sizes`` shows."""
        total = 0
        for level, step in enumerate(self.steps):
            questions = tuple(
                Question(step.spec.kind, i, o)
                for i, o in zip(self.sizes[level], self.sizes[level + 1], strict=True)
            )
            total += Solution(step.spec, questions).multiply_adds
        return total

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts and lists; fractions as texts."""
        return {
            "layers": [step.to_dict() for step in self.steps],
            "sizes": self.sizes,
            "strides_so_far": [[str(value) for value in level] for level in self.scales],
            "drift": [[str(value) for value in level] for level in self.drift],
            "period": [{"modulus": modulus, "residues": residues} for modulus, residues in self.period],
            "multiply_adds": self.multiply_adds,
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        lines = [f"{_times(self.sizes[0])} input"]
        for step, size, drift in zip(self.steps, self.sizes[1:], self.drift[1:], strict=True):
            lines.append(f"{_times(size)} {step.spec!r}, drift {_each(drift)}: {'; '.join(step.proof)}")
        return "\n".join([*lines, self.rule])

    @property
    def rule(self) -> str:
        """The sizes that fit, and the cost, in a sentence."""
        texts = []
        for modulus, residues in self.period:
            which = f"n = {' or '.join(map(str, residues))} modulo {modulus}" if residues else "no size"
            texts.append("every size" if len(residues) == modulus else which)
        joined = texts[0] if len(set(texts)) == 1 else "; ".join(texts)
        return f"the sizes fit for {joined}; {self.multiply_adds} multiply-adds"

    def _axis(self, axis: int) -> list[tuple[str, Choice]]:
        return [(step.spec.kind, step.choices[axis]) for step in self.steps]

    def _through(self, axis: int, size: int) -> list[int]:
        """The sizes of all levels on an axis; below 1 from where the input is too small."""
        sizes = [size]
        for step in self.steps:
            sizes.append(made_size(step.spec.kind, step.choices[axis], sizes[-1]) if sizes[-1] > 0 else 0)
        return sizes

    def _drift(self, axis: int, sizes: Sequence[int]) -> list[Fraction]:
        origin, found = Fraction(0), [Fraction(0)]
        for level, (kind, choice) in enumerate(self._axis(axis)):
            middle = Fraction(choice.window - 1, 2) - choice.low
            before, after = self.scales[level][axis], self.scales[level + 1][axis]
            origin += -after * middle if kind == "conv_transpose" else before * middle
            centre = origin + after * Fraction(sizes[level + 1] - 1, 2)
            found.append(centre - Fraction(sizes[0] - 1, 2))
        return found

    def _modulus(self, axis: int) -> int:
        return lcm(*(level[axis].numerator for level in self.scales))

    def _residues(self, axis: int) -> tuple[int, ...]:
        modulus = self._modulus(axis)
        # Far enough out for every level to have elements.
        far = modulus * (1 + sum(c.window + c.low + c.high for _, c in self._axis(axis)))
        return tuple(r for r in range(modulus) if self._is_exact(axis, far + r))

    def _is_exact(self, axis: int, size: int) -> bool:
        sizes = self._through(axis, size)
        scales = [level[axis] for level in self.scales]
        if min(sizes) < 1:
            return False
        pairs = [(a, b) for b in range(len(sizes)) for a in range(b) if scales[a] == scales[b]]
        if pairs:
            return all(sizes[a] == sizes[b] for a, b in pairs)
        first, last = self.steps[0].questions[axis], self.steps[-1].questions[axis]
        rest = 0 if first.every else last.output_size * scales[-1] - first.input_size
        return sizes[-1] * scales[-1] - size == rest

    def _next_exact(self, axis: int, size: int) -> int:
        modulus = self._modulus(axis)
        reach = modulus * (2 + sum(c.window + c.low + c.high for _, c in self._axis(axis)))
        found = next((n for n in range(size, size + reach + 1) if self._is_exact(axis, n)), None)
        if found is None:
            raise ShapeError(
                f"'input_size' must be one that the chain can bring back: got {size} on axis {axis}; legal: "
                f"none, for the layers' sizes never agree on that axis"
            )
        return found


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _each(values: Sequence[Fraction]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
