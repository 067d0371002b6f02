"""Whether torch, TensorFlow/Keras and ONNX have a layer, how it is written there, and if not, why.

A verdict is about one question: layers that differ elsewhere can agree on the sizes that were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from outstride.geometry.solver.choices import Choice, Question
from outstride.geometry.solver.merits import remainder, rounds_down
from outstride.layer.spec import ConvSpec

FRAMEWORKS = ("torch", "keras", "onnx")


@dataclass(frozen=True)
class Verdict:
    """What one framework makes of a layer.

    ``layers`` are what to write there, in order and with channels left out where unknown: empty if the
    framework has no such layer, one if it has, more if it needs a padding or cropping layer beside.
    ``reason`` says why.
    """

    framework: str
    layers: tuple[str, ...]
    reason: str

    @property
    def valid(self) -> bool:
        """Whether the framework can express the layer at all."""
        return bool(self.layers)

    @property
    def mark(self) -> str:
        """yes, more (with another layer beside) or no."""
        return ("no", "yes", "more")[min(len(self.layers), 2)]


class Asked(NamedTuple):
    """A layer together with the axes of the question that it answers."""

    spec: ConvSpec
    questions: tuple[Question, ...]
    choices: tuple[Choice, ...]

    @property
    def axes(self) -> list[tuple[Question, Choice]]:
        """Each axis's question with its answer."""
        return list(zip(self.questions, self.choices, strict=True))


def verdicts(asked: Asked) -> dict[str, Verdict]:
    """The verdict of each framework."""
    return {"torch": _torch(asked), "keras": _keras(asked), "onnx": _onnx(asked)}


def _torch(asked: Asked) -> Verdict:
    spec = asked.spec
    pads = [(c.low, c.high) for c in asked.choices]
    if spec.kind == "avg_pool" and spec.nd == 3 and any(q.input_size < c.kernel_size for q, c in asked.axes):
        return Verdict(
            "torch", (), "torch's AvgPool3d wants an input of at least the kernel without its padding"
        )
    one_sided = any(low != high for low, high in pads)
    too_wide = spec.is_pool and any(c.low > c.kernel_size // 2 for c in asked.choices)
    if not one_sided and not too_wide:
        return Verdict("torch", (repr(spec),), "every argument is one of torch's own")
    reason = "torch's layers take one padding for both sides"
    if spec.kind == "conv_transpose":
        # Both sides are cropped by the smaller padding, and the rest by a padding of negative size.
        least = tuple(min(pair) for pair in pads)
        crop = [(least[a] - low, least[a] - high) for a, (low, high) in enumerate(pads)]
        return Verdict("torch", (repr(_padded(spec, least)), _torch_pad(crop, "Zero")), reason)
    if too_wide:
        reason = "torch pads a maximum by at most half of kernel_size, dilation left aside"
    if spec.ceil_mode and not all(rounds_down(q, c) for q, c in asked.axes):
        return Verdict("torch", (), f"{reason}, and padding beforehand moves the limit of ceil_mode")
    kind = "Constant" if spec.kind == "max_pool" else "Zero"
    plain = replace(_padded(spec, (0,) * spec.nd), ceil_mode=False)
    return Verdict("torch", (_torch_pad(pads, kind), repr(plain)), reason)


def _torch_pad(pads: Sequence[tuple[int, int]], kind: str) -> str:
    flat = [side for pair in reversed(pads) for side in pair]  # torch counts from the last axis
    value = ", float('-inf')" if kind == "Constant" else ""
    return f"{kind}Pad{len(pads)}d({tuple(flat)}{value})"


def _padded(spec: ConvSpec, padding: tuple[int, ...]) -> ConvSpec:
    return replace(spec, padding=tuple((p, p) for p in padding))


def _keras(asked: Asked) -> Verdict:
    spec = asked.spec
    if max(spec.stride) > 1 and max(spec.dilation) > 1:
        return Verdict("keras", (), "Keras has no layer with both a stride and a dilation above 1")
    if spec.kind == "conv_transpose":
        return _keras_transposed(asked)
    if spec.is_pool:
        return _keras_pool(asked)
    return _keras_windowed(asked, _keras_call("Conv", asked))


def _keras_windowed(asked: Asked, call: str) -> Verdict:
    """A convolution, or an average that counts the padding: explicit zeros can always be put before it."""
    if not any(c.low or c.high for c in asked.choices):
        return Verdict("keras", (call + ")",), 'no padding is padding="valid"')
    if asked.spec.kind == "conv" and all(_is_same(q, c) for q, c in asked.axes):
        return Verdict("keras", (call + ', padding="same")',), 'padding="same" pads as much on the low side')
    zeros = f"ZeroPadding{asked.spec.nd}D({_keras_pairs([(c.low, c.high) for c in asked.choices])})"
    reason = "Keras takes no numbers for padding, so the zeros are a layer of their own"
    if asked.spec.kind == "conv":
        reason += f'; padding="same" would put {_per_axis(asked, _same_low)} on the low side'
    return Verdict("keras", (zeros, call + ")"), reason)


def _keras_pool(asked: Asked) -> Verdict:
    spec, family = asked.spec, "MaxPooling" if asked.spec.kind == "max_pool" else "AveragePooling"
    call = f"{family}{spec.nd}D({_short(spec.kernel_size)}, strides={_short(spec.stride)}"
    if max(spec.dilation) > 1:
        return Verdict("keras", (), "Keras pools without dilation")
    floors = all(rounds_down(q, c) for q, c in asked.axes)
    padded = any(c.low or c.high for c in asked.choices)
    if spec.kind == "max_pool" and (padded or not floors) and all(_is_same(q, c) for q, c in asked.axes):
        return Verdict("keras", (call + ', padding="same")',), 'padding="same" pads as much on the low side')
    if not floors:
        return Verdict("keras", (), "Keras has no ceil_mode, and rounding down gives another size")
    if spec.kind == "max_pool" and padded:
        return Verdict(
            "keras",
            (),
            f'Keras pads a maximum by "same" alone, which would put {_per_axis(asked, _same_low)} on the low '
            "side; zeros put before it would be taken for values",
        )
    return _keras_windowed(asked, call)


def _keras_transposed(asked: Asked) -> Verdict:
    spec = asked.spec
    if spec.groups > 1:
        return Verdict("keras", (), "Keras's transposed layers have no groups")
    call = _keras_call("Conv", asked).replace("D(", "DTranspose(", 1)
    # Keras's own output for "valid" is (i - 1) * s + max(w, s): the crops are what is left of it on either
    # side.
    crops = [
        (c.low, (q.input_size - 1) * c.stride + max(c.window, c.stride) - c.low - q.output_size)
        for q, c in asked.axes
    ]
    if not any(low or high for low, high in crops):
        return Verdict("keras", (call + ")",), 'no padding is padding="valid"')
    scales = all(q.output_size == q.input_size * c.stride for q, c in asked.axes)
    if scales and all(c.low == max(c.window - c.stride, 0) // 2 for c in asked.choices):
        return Verdict("keras", (call + ', padding="same")',), 'padding="same" crops as much on the low side')
    reason = "Keras takes no numbers for padding, so the crop is a layer of its own"
    if scales:
        reason += f'; padding="same" would crop {_per_axis(asked, _same_crop)} on the low side'
    if any(high < 0 for _, high in crops):
        extra = spec.output_padding
        if any(e >= s for e, s in zip(extra, spec.stride, strict=True)):
            return Verdict("keras", (), "Keras's output_padding must be smaller than strides")
        call += f", output_padding={_short(extra)}"
        crops = [(c.low, c.high) for c in asked.choices]
        if not any(low or high for low, high in crops):
            return Verdict("keras", (call + ")",), "Keras has the same output_padding")
    cropping = f"Cropping{spec.nd}D({_keras_pairs(crops)})"
    return Verdict("keras", (call + ")", cropping), reason)


def _keras_call(family: str, asked: Asked) -> str:
    spec = asked.spec
    filters = "filters" if spec.out_channels is None else str(spec.out_channels)
    parts = [filters, _short(spec.kernel_size)]
    if max(spec.stride) > 1:
        parts.append(f"strides={_short(spec.stride)}")
    if max(spec.dilation) > 1:
        parts.append(f"dilation_rate={_short(spec.dilation)}")
    if spec.groups > 1:
        parts.append(f"groups={spec.groups}")
    return f"{family}{spec.nd}D({', '.join(parts)}"


def _keras_pairs(pairs: Sequence[tuple[int, int]]) -> str:
    return repr(pairs[0] if len(pairs) == 1 else tuple(pairs))


def _same_low(question: Question, choice: Choice) -> int:
    """What "same" puts on the low side of this input."""
    outputs = -(-question.input_size // choice.stride)
    return max((outputs - 1) * choice.stride + choice.window - question.input_size, 0) // 2


def _same_crop(_: Question, choice: Choice) -> int:
    return max(choice.window - choice.stride, 0) // 2


def _is_same(question: Question, choice: Choice) -> bool:
    """Whether "same" computes it: windows as many, and the first starts where it should."""
    as_many = question.output_size == -(-question.input_size // choice.stride)
    return as_many and choice.low == _same_low(question, choice)


def _per_axis(asked: Asked, figure: object) -> str:
    assert callable(figure)
    figures = [figure(q, c) for q, c in asked.axes]
    return _short(figures)


def _onnx(asked: Asked) -> Verdict:
    spec = asked.spec
    name = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool"}.get(
        spec.kind, "AveragePool"
    )
    pads = [c.low for c in asked.choices] + [c.high for c in asked.choices]
    parts = [f"kernel_shape={list(spec.kernel_size)}", f"strides={list(spec.stride)}", f"pads={pads}"]
    if max(spec.dilation) > 1:
        parts.append(f"dilations={list(spec.dilation)}")
    if any(spec.output_padding):
        parts.append(f"output_padding={list(spec.output_padding)}")
    if spec.groups > 1:
        parts.append(f"group={spec.groups}")
    if spec.ceil_mode:
        parts.append("ceil_mode=1")
    if spec.kind == "avg_pool" and any(pads):
        parts.append(f"count_include_pad={int(spec.count_include_pad)}")
    if any(e >= s for e, s in zip(spec.output_padding, spec.stride, strict=True) if e):
        return Verdict(
            "onnx", (), "the standard's bound on output_padding is unclear where only the dilation exceeds it"
        )
    if spec.is_pool and any(max(c.low, c.high) >= c.kernel_size for c in asked.choices):
        return Verdict("onnx", (), "ONNX Runtime refuses to pool with pads of kernel_shape or more")
    if spec.ceil_mode and any(remainder(q, c) < 0 and c.high for q, c in asked.axes):
        return Verdict(
            "onnx", (f"{name}({', '.join(parts)})",), "pads have two sides; ceil_mode needs opset 10"
        )
    return Verdict("onnx", (f"{name}({', '.join(parts)})",), "pads have two sides and are numbers")


def _short(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else repr(tuple(values))
