"""A whole model: every layer that enlarges or reduces, what pattern it leaves, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from torch import Tensor, nn

from outstride.artifacts.coverage import overlap
from outstride.artifacts.gain import ripple
from outstride.artifacts.spectrum import Measurement, measure
from outstride.artifacts.suggestions import EVEN_GAIN, Suggestion, suggestions
from outstride.artifacts.watching import Part, running, standing
from outstride.errors import ArgumentError, OutstrideError
from outstride.layer import arguments as argument
from outstride.layer.spec import ConvSpec
from outstride.output.tables import html_table, html_text, text_table

HEAD = ("layer", "of", "verdict", "ripple", "measured")


@dataclass(frozen=True, eq=False)
class Finding:
    """One layer that changes the resolution.

    ``even`` says whether its overlap is, ``holes`` what share of the positions nothing reaches, both whatever
    the weights; ``ripple`` is the pattern's share for the weights as they are, None without weights;
    ``bias_pattern`` a sub-pixel layer's own; ``measured`` the pattern in its output for the input that was
    given, if large enough. ``module`` is the layer itself, or for a function the layer that it stands for,
    with the function's own weights: what cures ``module`` cures the model.
    """

    name: str
    layer: str
    of: Literal["output", "gradient"]
    even: bool
    holes: float
    ripple: float | None
    bias_pattern: float
    measured: Measurement | None
    suggestions: tuple[Suggestion, ...]
    module: nn.Module

    @property
    def verdict(self) -> str:
        """The finding in a few words."""
        if self.holes:
            return f"{self.holes:.0%} holes"
        if self.ripple is None or self.of == "gradient":
            return "even" if self.even else "uneven overlap"
        if self.ripple < EVEN_GAIN:
            return "even" if self.even else "uneven overlap, evened out by the weights"
        return "uneven weights" if self.even else "uneven overlap"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "name": self.name,
            "layer": self.layer,
            "of": self.of,
            "verdict": self.verdict,
            "even_overlap": self.even,
            "holes": self.holes,
            "ripple": self.ripple,
            "bias_pattern": self.bias_pattern,
            "measured": self.measured.to_dict() if self.measured else None,
            "suggestions": [one.to_dict() for one in self.suggestions],
        }

    def __str__(self) -> str:
        found = "  ".join(filter(None, _cells(self)))
        return "\n".join([found, *self.lines])

    def _repr_html_(self) -> str:
        return html_text(str(self))

    @property
    def lines(self) -> list[str]:
        """The layer and what helps it, a line each."""
        return [f"    {self.layer}", *(f"    -> {one}" for one in self.suggestions)]


@dataclass(frozen=True, eq=False)
class Survey:
    """The findings in a model, in the order in which its layers run, or stand if it was not run."""

    model: str
    findings: tuple[Finding, ...]
    output: tuple[tuple[tuple[int, ...], Measurement], ...]
    ran: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "model": self.model,
            "findings": [finding.to_dict() for finding in self.findings],
            "output": [measured.to_dict() for _, measured in self.output],
        }

    def __str__(self) -> str:
        if not self.findings:
            return "\n".join(
                (f"{self.model}: nothing enlarges or reduces, so nothing leaves a pattern", *self._notes)
            )
        head, *rows = text_table([HEAD, *map(_cells, self.findings)])
        lines = [self.model, head]
        for row, finding in zip(rows, self.findings, strict=True):
            lines += [row, *finding.lines]
        return "\n".join([*lines, *self._notes])

    @property
    def _notes(self) -> list[str]:
        unseen = "with an input, functions that are called are seen too, and outputs are measured"
        return [f"output: {measured}" for _, measured in self.output] + ([] if self.ran else [unseen])

    def _repr_html_(self) -> str:
        rows = [
            (*_cells(one), "\n".join((one.layer, *(f"-> {helps}" for helps in one.suggestions))))
            for one in self.findings
        ]
        return html_table(self.model, (*HEAD, "what it is, and what helps"), rows, "\n".join(self._notes))


def inspect(model: nn.Module, input: Tensor | None = None) -> Survey:
    """Look for checkerboards in a model: layer by layer from its weights and, with an input, in what it
    computes.

    Args:
        model: any module; a layer alone too. It is not changed.
        input: what the model takes, such as a picture (N, C, H, W). With it the model is run once in
            evaluation mode: layers and functions (``F.conv_transpose2d``, ``F.interpolate``, ...) are listed
            in the order in which they run, a PixelShuffle is joined with the convolution that it really
            follows, and every output is measured. Without it only layers are seen, and a PixelShuffle is
            joined with the convolution before it in a Sequential.

    Returns:
        A printable ``Survey``: transposed, sub-pixel and resizing layers by their output, strided
        convolutions and pooling by their gradient, each with what helps. Replacements have the same output
        size for every input; changed weights come with the ripple that they have then.

    Raises:
        ShapeError: the model does not take the input.

    Example:
        >>> found = inspect(nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)))
        >>> found.findings[0].verdict, found.findings[0].suggestions[-2].text
        ('uneven overlap', 'ConvTranspose2d(8, 4, 4, stride=2, padding=1)')
    """
    argument.module("model", model)
    result, parts = (None, standing(model)) if input is None else running(model, input)
    periods = {_at(result, part) for part in parts if part.enlarges} if result is not None else set()
    measured = ((period, _measured(result, period)) for period in sorted(filter(None, periods)))
    return Survey(
        type(model).__name__,
        tuple(map(_finding, parts)),
        tuple((period, found) for period, found in measured if found is not None),
        input is not None,
    )


def _at(result: Tensor, part: Part) -> tuple[int, ...] | None:
    """The period of a part's pattern in what the model returns: what enlarges later stretches it."""
    if part.period is None or part.output is None:
        return None
    later = [Fraction(*sizes) for sizes in zip(result.shape[2:], part.output.shape[2:], strict=False)]
    stretched = [period * times for period, times in zip(part.period, later, strict=False)]
    if len(stretched) < len(part.period) or any(side.denominator > 1 for side in stretched):
        return None
    return tuple(map(int, stretched))


def _cells(finding: Finding) -> tuple[str, str, str, str, str]:
    share = "" if finding.ripple is None else f"{finding.ripple:.3g}"
    if finding.bias_pattern > 0:
        share += f", bias {finding.bias_pattern:.2g}"
    found = finding.measured
    seen = "" if found is None else f"{found.amplitude:.2g} ({found.ratio:.3g} x neighbours)"
    return finding.name, finding.of, finding.verdict, share, seen


def _finding(part: Part) -> Finding:
    if isinstance(part.layer, nn.PixelShuffle):
        return _shuffled(part, part.layer)
    measured = _measured(part.output, part.period) if part.enlarges else None
    if isinstance(part.layer, nn.Upsample):
        # The weights of interpolation add up to 1 wherever they stand: a constant stays one.
        return Finding(part.name, repr(part.layer), "output", True, 0.0, 0.0, 0.0, measured, (), part.layer)
    covered = overlap(part.layer)
    weighted = isinstance(getattr(part.layer, "weight", None), Tensor)
    return Finding(
        part.name,
        repr(covered.spec),
        covered.of,
        covered.even,
        covered.holes,
        ripple(part.layer).value if weighted else None,
        0.0,
        measured,
        suggestions(part.layer),
        part.layer,
    )


def _shuffled(part: Part, shuffle: nn.PixelShuffle) -> Finding:
    text = f"PixelShuffle({shuffle.upscale_factor})"
    measured = _measured(part.output, part.period)
    plain = Finding(part.name, text, "output", True, 0.0, None, 0.0, measured, (), shuffle)
    if part.conv is None:
        return replace(plain, layer=f"{text}, fed by no convolution that was seen")
    pair = nn.Sequential(part.conv, shuffle)
    try:
        found, helps = ripple(pair), suggestions(pair)
    except ArgumentError:  # what feeds it is strided, so that the phases are no layer's own
        return plain
    return replace(
        plain,
        layer=f"{ConvSpec.of(part.conv)!r} + {text}",
        ripple=found.value,
        bias_pattern=found.bias_pattern,
        suggestions=helps,
        module=pair,
    )


def _measured(out: Tensor | None, period: tuple[int, ...] | None) -> Measurement | None:
    if out is None or period is None or not out.is_floating_point():
        return None
    try:
        return measure(out.float(), period)
    except OutstrideError:
        return None  # fewer periods than a line can be told from
