"""A whole model: every layer that enlarges or reduces, what pattern it leaves, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from outstride.artifacts.coverage import overlap
from outstride.artifacts.gain import ripple
from outstride.artifacts.periodic import CONVS, POOLS, TRANSPOSED
from outstride.artifacts.phases import SHUFFLED_AXES
from outstride.artifacts.spectrum import Measurement, measure
from outstride.artifacts.suggestions import EVEN_GAIN, Suggestion, suggestions
from outstride.errors import ArgumentError, OutstrideError, ShapeError
from outstride.spec import ConvSpec


@dataclass(frozen=True, eq=False)
class Finding:
    """One layer that changes the resolution.

    ``even`` says whether its overlap is, ``holes`` what share of the positions nothing reaches, both whatever
    the weights; ``ripple`` is the pattern's share for the weights as they are, None without weights;
    ``bias_pattern`` a sub-pixel layer's own; ``measured`` the pattern in its output for the input that was
    given, if large enough.
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
            "suggestions": [vars(one) for one in self.suggestions],
        }


@dataclass(frozen=True, eq=False)
class Survey:
    """The findings in a model, in the order in which its layers run, or stand if it was not run."""

    model: str
    findings: tuple[Finding, ...]
    output: tuple[tuple[int, Measurement], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "model": self.model,
            "findings": [finding.to_dict() for finding in self.findings],
            "output": [measured.to_dict() for _, measured in self.output],
        }

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.model}: no layer enlarges or reduces, so none leaves a pattern of its own"
        head = ("layer", "of", "verdict", "ripple", "measured")
        rows = [head, *(_cells(finding) for finding in self.findings)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [self.model]
        for row, finding in zip(rows, (None, *self.findings), strict=True):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
            if finding is not None:
                lines.append(f"    {finding.layer}")
                lines += [f"    -> {one}" for one in finding.suggestions]
        lines += [f"output: {measured}" for _, measured in self.output]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th>{name}</th>" for name in ("layer", "of", "verdict", "ripple", "measured", "what helps")
        )
        rows = []
        for finding in self.findings:
            name, *cells = _cells(finding)
            helps = "<br>".join(escape(str(one)) for one in finding.suggestions)
            first = f"{escape(name)}<br><code>{escape(finding.layer)}</code>"
            rows.append("".join(f"<td>{cell}</td>" for cell in (first, *map(escape, cells), helps)))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        below = "".join(f"<p>output: {escape(str(measured))}</p>" for _, measured in self.output)
        return f"<p>{escape(self.model)}</p><table><tr>{head}</tr>{body}</table>{below}"


def inspect(model: nn.Module, input: Tensor | None = None) -> Survey:
    """Look for checkerboards in a model: layer by layer from its weights and, with an input, in what it
    computes.

    Args:
        model: any module; a layer alone too. It is not changed.
        input: what the model takes, such as a picture (N, C, H, W). With it the model is run once in
            evaluation mode: layers are listed in the order in which they run, a PixelShuffle is joined with
            the convolution that it really follows, and every output is measured. Without it a PixelShuffle is
            joined with the convolution before it in a Sequential.

    Returns:
        A printable ``Survey``: transposed and sub-pixel layers by their output, strided convolutions and
        pooling by their gradient, each with what helps. Replacements have the same output size for every
        input; changed weights come with the ripple that they have then.

    Raises:
        ShapeError: the model does not take the input.

    Example:
        >>> found = inspect(nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)))
        >>> found.findings[0].verdict, found.findings[0].suggestions[-2].text
        ('uneven overlap', 'ConvTranspose2d(8, 4, 4, stride=2, padding=1)')
    """
    outputs: dict[nn.Module, Tensor] = {}
    joined = _joined_in_sequentials(model)
    order = [part for part in model.modules() if _changes_resolution(part)]
    result: Tensor | None = None
    if input is not None:
        result, order, joined_in_run = _run(model, input, outputs)
        joined |= joined_in_run
    names = {part: name or type(part).__name__ for name, part in model.named_modules()}
    findings = [
        _finding(names[part], part, joined.get(part), outputs.get(part))
        for part in dict.fromkeys(order)
        if part not in joined.values()
    ]
    periods = sorted({max(_stride(part)) for part in order if _enlarges(part)})
    measured = [(period, _measured(result, period)) for period in periods]
    return Survey(
        type(model).__name__,
        tuple(findings),
        tuple((period, found) for period, found in measured if found is not None),
    )


def _cells(finding: Finding) -> tuple[str, str, str, str, str]:
    share = "" if finding.ripple is None else f"{finding.ripple:.3g}"
    if finding.bias_pattern > 0:
        share += f", bias {finding.bias_pattern:.2g}"
    found = finding.measured
    seen = "" if found is None else f"{found.amplitude:.2g} ({found.ratio:.3g} x neighbours)"
    return finding.name, finding.of, finding.verdict, share, seen


def _changes_resolution(part: nn.Module) -> bool:
    if isinstance(part, (*CONVS, *TRANSPOSED, *POOLS)):
        return max(ConvSpec.of(part).stride) > 1
    return isinstance(part, nn.PixelShuffle)


def _enlarges(part: nn.Module) -> bool:
    return isinstance(part, (*TRANSPOSED, nn.PixelShuffle))


def _stride(part: nn.Module) -> tuple[int, ...]:
    if isinstance(part, nn.PixelShuffle):
        return (part.upscale_factor,) * SHUFFLED_AXES
    return ConvSpec.of(part).stride


def _joined_in_sequentials(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Each PixelShuffle with the convolution before it."""
    found: dict[nn.Module, nn.Module] = {}
    for part in model.modules():
        if isinstance(part, nn.Sequential):
            found |= {
                after: before
                for before, after in pairwise(part)
                if isinstance(after, nn.PixelShuffle) and isinstance(before, nn.Conv2d)
            }
    return found


def _run(
    model: nn.Module, input: Tensor, outputs: dict[nn.Module, Tensor]
) -> tuple[Tensor | None, list[nn.Module], dict[nn.Module, nn.Module]]:
    """Run once and watch: outputs, the order of the layers, and which convolution a shuffle was fed by."""
    order: list[nn.Module] = []
    joined: dict[nn.Module, nn.Module] = {}
    makers: dict[int, nn.Module] = {}
    alive: list[Tensor] = []  # an id stands for a tensor only while that lives

    def watch(part: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        if not isinstance(out, Tensor):
            return
        if isinstance(part, nn.PixelShuffle) and given and isinstance(makers.get(id(given[0])), nn.Conv2d):
            joined[part] = makers[id(given[0])]
        if isinstance(part, CONVS):
            makers[id(out)] = part
            alive.append(out)
        if _changes_resolution(part):
            order.append(part)
            outputs.setdefault(part, out.detach())

    was_training = model.training
    hooks = [part.register_forward_hook(watch) for part in model.modules()]
    try:
        with torch.no_grad():
            result = model.eval()(input)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ShapeError(
            f"'input' must be one that the model takes: got shape {tuple(input.shape)}; "
            f"it says: {str(error).splitlines()[0]}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return (result if isinstance(result, Tensor) else None), order, joined


def _finding(name: str, part: nn.Module, conv: nn.Module | None, out: Tensor | None) -> Finding:
    layer = nn.Sequential(conv, part) if conv is not None else part
    if isinstance(part, nn.PixelShuffle):
        return _shuffled(name, part, conv, layer, out)
    covered = overlap(part)
    weighted = isinstance(getattr(part, "weight", None), Tensor)
    share = ripple(part).value if weighted else None
    measured = _measured(out, _stride(part)) if _enlarges(part) else None
    return Finding(
        name,
        repr(covered.spec),
        covered.of,
        covered.even,
        covered.holes,
        share,
        0.0,
        measured,
        suggestions(part),
    )


def _shuffled(
    name: str, part: nn.PixelShuffle, conv: nn.Module | None, layer: nn.Module, out: Tensor | None
) -> Finding:
    measured = _measured(out, _stride(part))
    text = f"PixelShuffle({part.upscale_factor})"
    if conv is None:
        return Finding(
            name, f"{text}, fed by no convolution that was seen", "output", True, 0.0, None, 0.0, measured, ()
        )
    try:
        found = ripple(layer)
        helps = suggestions(layer)
    except ArgumentError:  # what feeds it is strided, so that the phases are no layer's own
        return Finding(name, text, "output", True, 0.0, None, 0.0, measured, ())
    return Finding(
        name,
        f"{ConvSpec.of(conv)!r} + {text}",
        "output",
        True,
        0.0,
        found.value,
        found.bias_pattern,
        measured,
        helps,
    )


def _measured(out: Tensor | None, period: int | tuple[int, ...]) -> Measurement | None:
    if out is None or not out.is_floating_point():
        return None
    try:
        return measure(out.float(), period)
    except OutstrideError:
        return None  # fewer periods than a line can be told from
