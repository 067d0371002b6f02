"""The gallery: for each thing that a layer can do one small picture that moves, with numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from outstride.errors import ArgumentError
from outstride.explanation.explaining import FORMATS, Explanation, explain


class Exhibit(NamedTuple):
    """A layer as one writes it in torch, the size of its input, the view that shows it, and a sentence."""

    title: str
    line: str
    size: tuple[int, ...]
    view: str
    says: str

    def explained(self) -> Explanation:
        """The layer at work."""
        return explain(self.line, self.size)


_CONVOLUTIONS = {
    "conv-no-padding": Exhibit(
        "No padding", "Conv2d(1, 1, 3)", (4, 4), "window",
        "The kernel stands wherever it fits: the output is smaller by kernel_size - 1.",
    ),
    "conv-padding": Exhibit(
        "Arbitrary padding", "Conv2d(1, 1, 4, padding=2)", (3, 3), "window",
        "Two rows and columns of zeros on every side make the output larger than the input.",
    ),
    "conv-half-padding": Exhibit(
        "Half padding", "Conv2d(1, 1, 3, padding=1)", (3, 3), "window",
        "kernel_size // 2 zeros on every side keep the size; torch also writes padding='same'.",
    ),
    "conv-full-padding": Exhibit(
        "Full padding", "Conv2d(1, 1, 3, padding=2)", (2, 2), "window",
        "kernel_size - 1 zeros on every side: every place where kernel and input meet at all.",
    ),
    "conv-strides": Exhibit(
        "Stride", "Conv2d(1, 1, 3, stride=2)", (5, 5), "window",
        "The kernel moves two elements at a time, so the output has about half as many.",
    ),
    "conv-padding-strides": Exhibit(
        "Padding and stride", "Conv2d(1, 1, 3, stride=2, padding=1)", (5, 5), "window",
        "Five elements become three.",
    ),
    "conv-padding-strides-odd": Exhibit(
        "Padding and stride, one element left over", "Conv2d(1, 1, 3, stride=2, padding=1)", (6, 6), "window",
        "Six become three, too: the last row and column of the padding are never read.",
    ),
    "conv-dilation": Exhibit(
        "Dilation", "Conv2d(1, 1, 3, dilation=2)", (6, 6), "window",
        "The kernel's elements read two apart: nine numbers out of a window of five by five.",
    ),
    "conv-rectangles": Exhibit(
        "Every axis by itself", "Conv2d(1, 1, (2, 3), stride=(1, 2), padding=(0, 1))", (3, 5), "window",
        "Kernel, stride, padding and dilation may differ from axis to axis.",
    ),
    "conv-reflect": Exhibit(
        "Padding that reflects", "Conv2d(1, 1, 3, padding=1, padding_mode='reflect')", (3, 3), "window",
        "The border mirrors the inside; the outermost row is not repeated.",
    ),
    "conv-replicate": Exhibit(
        "Padding that replicates", "Conv2d(1, 1, 3, padding=1, padding_mode='replicate')", (3, 3), "window",
        "The border repeats the outermost element.",
    ),
    "conv-circular": Exhibit(
        "Padding that wraps round", "Conv2d(1, 1, 3, padding=1, padding_mode='circular')", (3, 3), "window",
        "The border holds what lies on the other side.",
    ),
    "conv-1d": Exhibit(
        "One axis", "Conv1d(1, 1, 3, padding=1)", (6,), "window",
        "Sound, text, any series.",
    ),
    "conv-1d-dilation": Exhibit(
        "One axis, dilated and strided", "Conv1d(1, 1, 3, stride=2, padding=2, dilation=2)", (7,), "window",
        "Stride says where windows begin, dilation how far apart a window reads.",
    ),
    "conv-3d": Exhibit(
        "Three axes", "Conv3d(1, 1, 2)", (3, 3, 3), "window",
        "A volume, slice by slice: the kernel has two slices, and so have the outputs.",
    ),
}  # fmt: skip

_CHANNELS = {
    "conv-channels": Exhibit(
        "Several channels", "Conv2d(2, 2, 2)", (3, 3), "channels",
        "A kernel for each pair of channels; an output sums over all that it reads.",
    ),
    "conv-1x1": Exhibit(
        "A kernel of one element", "Conv2d(3, 2, 1)", (2, 2), "channels",
        "It sees a single pixel and mixes its channels: the same small matrix at every pixel.",
    ),
    "conv-groups": Exhibit(
        "Groups", "Conv2d(4, 2, 2, groups=2)", (3, 3), "channels",
        "Each half of the outputs reads its half of the inputs.",
    ),
    "conv-depthwise": Exhibit(
        "Depthwise", "Conv2d(3, 3, 2, groups=3)", (3, 3), "channels",
        "As many groups as channels: each output channel reads one.",
    ),
    "conv-1d-channels": Exhibit(
        "Several channels of one axis", "Conv1d(3, 2, 2)", (4,), "channels",
        "Three series in, two out.",
    ),
    "transposed-channels": Exhibit(
        "Several channels, transposed", "ConvTranspose2d(2, 2, 2)", (2, 2), "channels",
        "Turned round: an input stamps on every output channel, each time with another kernel.",
    ),
    "transposed-groups": Exhibit(
        "Groups, transposed", "ConvTranspose2d(2, 2, 2, stride=2, groups=2)", (2, 2), "channels",
        "Each channel stamps on its own.",
    ),
}  # fmt: skip

_TRANSPOSED = {
    "transposed-no-padding": Exhibit(
        "No padding", "ConvTranspose2d(1, 1, 3)", (2, 2), "stamps",
        "Each input lays the kernel, times itself, on the output; what overlaps adds up.",
    ),
    "transposed-padding": Exhibit(
        "Arbitrary padding", "ConvTranspose2d(1, 1, 4, padding=2)", (4, 4), "stamps",
        "Padding is that of the convolution which goes the other way: here it is cropped, the grey cells.",
    ),
    "transposed-half-padding": Exhibit(
        "Half padding", "ConvTranspose2d(1, 1, 3, padding=1)", (3, 3), "stamps",
        "Cropped by kernel_size // 2 on every side the size stays.",
    ),
    "transposed-full-padding": Exhibit(
        "Full padding", "ConvTranspose2d(1, 1, 3, padding=2)", (4, 4), "stamps",
        "Only what every tap reaches is left: the size of a convolution without padding.",
    ),
    "transposed-strides": Exhibit(
        "Stride", "ConvTranspose2d(1, 1, 3, stride=2)", (2, 2), "stamps",
        "Stride is the distance of two stamps. These overlap by one row and column.",
    ),
    "transposed-padding-strides": Exhibit(
        "Padding and stride", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (3, 3), "stamps",
        "Three elements become five.",
    ),
    "transposed-output-padding": Exhibit(
        "output_padding", "ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)", (2, 2), "stamps",
        "On the far side it uncovers again what padding cropped: stamped numbers, no zeros.",
    ),
    "transposed-even": Exhibit(
        "Twice the size, evenly", "ConvTranspose2d(1, 1, 4, stride=2, padding=1)", (2, 2), "stamps",
        "The stride divides the kernel: every output inside gets equally many stamps.",
    ),
    "transposed-tiles": Exhibit(
        "Stamps side by side", "ConvTranspose2d(1, 1, 2, stride=2)", (3, 3), "stamps",
        "Kernel and stride alike: no two stamps meet.",
    ),
    "transposed-dilation": Exhibit(
        "Dilation", "ConvTranspose2d(1, 1, 2, dilation=2)", (2, 2), "stamps",
        "The stamp's elements lie two apart, and stamps fill each other's gaps.",
    ),
    "transposed-1d": Exhibit(
        "One axis", "ConvTranspose1d(1, 1, 3, stride=2)", (4,), "stamps",
        "Two stamps meet on every second output: this is where checkerboards come from.",
    ),
    "transposed-1d-beyond": Exhibit(
        "output_padding beyond the last stamp", "ConvTranspose1d(1, 1, 2, stride=2, output_padding=1)", (3,),
        "stamps", "Where nothing was stamped there is nothing but the bias.",
    ),
    "transposed-3d": Exhibit(
        "Three axes", "ConvTranspose3d(1, 1, 2, stride=2)", (1, 2, 2), "stamps",
        "A slice of four numbers becomes two slices of sixteen.",
    ),
}  # fmt: skip

_ONE_LAYER = {
    "one-stamps": Exhibit(
        "As stamps", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (2, 2), "stamps",
        "What the layer means: inputs scatter.",
    ),
    "one-zeros": Exhibit(
        "As a convolution over zeros in between", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (2, 2),
        "zeros", "The same numbers by a window of stride 1, the kernel turned round. Most products are zero.",
    ),
    "one-phases": Exhibit(
        "As phases", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (2, 2), "phases",
        "The same without a zero: outputs of a colour read the taps of that colour.",
    ),
    "one-matrix": Exhibit(
        "As a matrix", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (2, 2), "matrix",
        "That of the convolution which goes the other way, turned over.",
    ),
    "one-1d-phases": Exhibit(
        "Phases on one axis", "ConvTranspose1d(1, 1, 4, stride=2, padding=1)", (4,), "phases",
        "Even outputs by two of the taps, odd ones by the two others.",
    ),
    "one-even-phases": Exhibit(
        "Four phases of four taps", "ConvTranspose2d(1, 1, 4, stride=2, padding=1)", (2, 2), "phases",
        "The stride divides the kernel, so that all phases have equally many taps.",
    ),
    "one-holes": Exhibit(
        "A phase without taps", "ConvTranspose1d(1, 1, 2, stride=2, dilation=2)", (3,), "phases",
        "Stride and dilation share a divisor: every second output is a hole.",
    ),
    "conv-matrix": Exhibit(
        "A convolution as a matrix", "Conv2d(1, 1, 2)", (3, 3), "matrix",
        "Each output is a row; the kernel stands in it wherever the window lies.",
    ),
    "conv-1d-matrix": Exhibit(
        "A matrix with a stride", "Conv1d(1, 1, 3, stride=2, padding=1)", (6,), "matrix",
        "From row to row the kernel moves by the stride; on the padding it is cut off.",
    ),
    "conv-short": Exhibit(
        "Fewer multiplications", "Conv2d(1, 1, 3, padding=1)", (4, 4), "short",
        "Four outputs that are neighbours take 16 products instead of 36.",
    ),
    "conv-1d-short": Exhibit(
        "Fewer multiplications on one axis", "Conv1d(1, 1, 3)", (6,), "short",
        "Two outputs of three taps: four products instead of six.",
    ),
}  # fmt: skip

_BOTH_WAYS = {
    "pair-strides": Exhibit(
        "Side by side", "Conv2d(1, 1, 3, stride=2, padding=1)", (5, 5), "pair",
        "What a convolution reads for an output, its transposed layer stamps for an input.",
    ),
    "pair-1d": Exhibit(
        "Side by side on one axis", "Conv1d(1, 1, 3, stride=2, padding=1)", (7,), "pair",
        "The same cells, the arrows turned round.",
    ),
    "pair-dilation": Exhibit(
        "Side by side, dilated", "ConvTranspose2d(1, 1, 2, dilation=2)", (2, 2), "pair",
        "Above the convolution that leads back to its input's size.",
    ),
    "conv-gradient": Exhibit(
        "The gradients of a convolution", "Conv2d(1, 1, 2)", (3, 3), "gradient",
        "The input's is a transposed layer; the kernel's sums the windows that were read.",
    ),
    "conv-1d-gradient": Exhibit(
        "The gradients with padding", "Conv1d(1, 1, 3, padding=1)", (4,), "gradient",
        "What lies on the padding is dropped.",
    ),
    "transposed-gradient": Exhibit(
        "The gradients of a transposed layer", "ConvTranspose2d(1, 1, 2, stride=2)", (2, 2), "gradient",
        "The input's is a convolution of what comes from behind.",
    ),
}  # fmt: skip

_POOLING = {
    "pool-max": Exhibit(
        "The maximum", "MaxPool2d(2)", (4, 4), "window",
        "The largest number under the window; the stride is the window unless it is given.",
    ),
    "pool-max-padding": Exhibit(
        "Windows that overlap", "MaxPool2d(3, stride=2, padding=1)", (5, 5), "window",
        "The padding of a maximum is minus infinity.",
    ),
    "pool-max-ceil": Exhibit(
        "ceil_mode", "MaxPool2d(2, ceil_mode=True)", (5, 5), "window",
        "A last window that hangs over the edge counts.",
    ),
    "pool-max-dilation": Exhibit(
        "A dilated maximum", "MaxPool1d(3, stride=1, dilation=2)", (8,), "window",
        "The largest of every other number.",
    ),
    "pool-max-gradient": Exhibit(
        "The gradient of a maximum", "MaxPool2d(3, stride=2)", (5, 5), "gradient",
        "It goes to the number that won, sometimes more than once.",
    ),
    "pool-unpool": Exhibit(
        "Indices, and the way back", "MaxPool2d(2)", (4, 4), "unpool",
        "return_indices=True says where each maximum stood, and MaxUnpool2d(2) puts it back there.",
    ),
    "pool-max-3d": Exhibit(
        "The maximum of a volume", "MaxPool3d(2)", (2, 4, 4), "window",
        "The largest of eight numbers in two slices.",
    ),
    "pool-avg": Exhibit(
        "The average", "AvgPool2d(2)", (4, 4), "window",
        "The sum under the window, divided by its size.",
    ),
    "pool-avg-padding": Exhibit(
        "An average that counts the padding", "AvgPool2d(3, stride=2, padding=1)", (5, 5), "window",
        "By default zeros of the padding count: corners are divided by nine, too.",
    ),
    "pool-avg-ceil": Exhibit(
        "An average of what is there",
        "AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)", (4, 4), "window",
        "Divided by as many numbers as the window really reads.",
    ),
    "pool-avg-1d": Exhibit(
        "A moving average", "AvgPool1d(3, stride=1)", (7,), "window",
        "One step at a time.",
    ),
    "pool-avg-matrix": Exhibit(
        "An average as a matrix", "AvgPool2d(2)", (4, 4), "matrix",
        "It is linear: a convolution of every channel by itself, all of whose weights are the same.",
    ),
    "pool-avg-gradient": Exhibit(
        "The gradient of an average", "AvgPool1d(3, stride=2, padding=1)", (6,), "gradient",
        "Everyone who was read gets the same part.",
    ),
}  # fmt: skip

_AMONG_ZEROS = {
    "zeros-no-padding": Exhibit(
        "No padding", "ConvTranspose2d(1, 1, 3)", (2, 2), "zeros",
        "kernel_size - 1 zeros around, for none was padded on the way down.",
    ),
    "zeros-padding": Exhibit(
        "Arbitrary padding", "ConvTranspose2d(1, 1, 4, padding=2)", (3, 3), "zeros",
        "Padding takes zeros away: kernel_size - 1 - padding are left on every side.",
    ),
    "zeros-half-padding": Exhibit(
        "Half padding", "ConvTranspose2d(1, 1, 3, padding=1)", (3, 3), "zeros",
        "It is half padding in both directions.",
    ),
    "zeros-full-padding": Exhibit(
        "Full padding", "ConvTranspose2d(1, 1, 3, padding=2)", (4, 4), "zeros",
        "No zeros are left: a plain convolution with the kernel turned round.",
    ),
    "zeros-strides": Exhibit(
        "Stride", "ConvTranspose2d(1, 1, 3, stride=2)", (2, 2), "zeros",
        "stride - 1 zeros between neighbours, on every axis.",
    ),
    "zeros-padding-strides": Exhibit(
        "Padding and stride", "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (3, 3), "zeros",
        "Zeros between, and one around.",
    ),
    "zeros-output-padding": Exhibit(
        "output_padding", "ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)", (2, 2), "zeros",
        "One row and column of zeros more on the far side, so that the window has one more place.",
    ),
    "zeros-dilation": Exhibit(
        "Dilation", "ConvTranspose2d(1, 1, 2, dilation=2)", (2, 2), "zeros",
        "The kernel's elements lie two apart here, too.",
    ),
    "zeros-1d": Exhibit(
        "One axis", "ConvTranspose1d(1, 1, 4, stride=2, padding=1)", (4,), "zeros",
        "Of four taps two meet a zero, in turn.",
    ),
}  # fmt: skip

GALLERY: Mapping[str, Mapping[str, Exhibit]] = {
    "Convolution": _CONVOLUTIONS,
    "Channels": _CHANNELS,
    "Transposed convolution": _TRANSPOSED,
    "Transposed convolution over zeros in between": _AMONG_ZEROS,
    "One layer, many views": _ONE_LAYER,
    "Both ways": _BOTH_WAYS,
    "Pooling": _POOLING,
}
"""Exhibits by section and name."""


def exhibits() -> dict[str, Exhibit]:
    """Every exhibit by its name."""
    return {name: exhibit for section in GALLERY.values() for name, exhibit in section.items()}


def save_gallery(folder: Path, suffix: str = "svg", seconds: float = 1.0) -> list[Path]:
    """Write every exhibit into a folder, each under its name.

    Args:
        folder: it is made if it does not exist.
        suffix: svg or gif, which move, html with buttons to step, or png, which shows the last step.
        seconds: for each step.

    Returns:
        The files.

    Raises:
        ArgumentError: another suffix or no folder can be made there.
    """
    legal = [form.removeprefix(".") for form in FORMATS]
    if suffix not in legal:
        raise ArgumentError(f"'suffix' must be one of pictures: got {suffix!r}; legal: {', '.join(legal)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"'folder' must be one that can be made: got {str(folder)!r} ({error.strerror}); legal: gallery"
        ) from None
    return [
        exhibit.explained().save(folder / f"{name}.{suffix}", exhibit.view, seconds)
        for name, exhibit in exhibits().items()
    ]
