"""A photograph through a layer: what comes out, beside what others make of it, and the pattern in it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from outstride import nn
from outstride.artifacts.cures import equalize_
from outstride.artifacts.gain import ripple
from outstride.artifacts.spectrum import measure
from outstride.errors import ArgumentError, OutstrideError
from outstride.explanation.arithmetic import pooled
from outstride.explanation.example import Example
from outstride.explanation.scene import number
from outstride.geometry import output_size, resolved_padding
from outstride.layer.spec import ConvSpec
from outstride.nn.building import built
from outstride.studio.kernels import is_signed, kernel, names
from outstride.studio.layers import of_one_channel
from outstride.studio.photographs import CREDIT, LONGEST_SIDE, SHIPPED, Album, Photograph, png
from outstride.studio.questions import edited_of, fitting, layer_text, text_of
from outstride.studio.readings import reading_at

Floats = npt.NDArray[np.floating]
#: The longest side of what comes out, and a kernel's elements that are shown in numbers.
_LONGEST_OUTPUT, _MOST_TAPS = 288, 121
_ONE_GREY = 1 / 255
ALBUM = Album()


class Darkroom:
    """A layer of one channel with a kernel, and the photograph that it is given."""

    def __init__(self, question: Mapping[str, Any]) -> None:
        """Read a question.

        Raises:
            ArgumentError: the layer has other axes than a picture, or no such kernel.
        """
        self.spec = ConvSpec.parse(layer_text(question), "layer")
        if self.spec.nd != 2:
            raise ArgumentError(
                f"'layer' must have the two axes of a picture: got {self.spec!r}; legal: 'Conv2d(1, 1, 3)'"
            )
        self.photograph = _photograph(question)
        steps = max(self.spec.stride) if self.spec.kind == "conv_transpose" else 1
        self.x = self.photograph.shrunk(max(8, min(LONGEST_SIDE, _LONGEST_OUTPUT // steps)))
        self.name, self.layer = "", built(self.spec) if self.spec.is_pool else None
        if self.layer is None:
            self.name = text_of(question, "kernel") or names(self.spec)[1]
            self.layer = of_one_channel(self.spec, self._kernel(question))
        self.ripple = _ripple(self.layer)
        self.cured = bool(question.get("cure")) and self.ripple > 0
        if self.cured:
            equalize_(self.layer, keep="mean")

    def _kernel(self, question: Mapping[str, Any]) -> list[float]:
        values: list[float] = kernel(self.spec, self.name, _typed(self.spec, question)).ravel().tolist()
        return values

    @property
    def weight(self) -> Floats:
        """The kernel as it is; ones where there is none."""
        weight = getattr(self.layer, "weight", None)
        return np.ones(self.spec.kernel_size) if weight is None else weight.detach().numpy()[0, 0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes in."""
        return cast("tuple[int, int]", self.x.shape)

    def developed(self) -> Floats:
        """What the layer makes of it."""
        output_size(self.spec, self.size)
        assert self.layer is not None
        x = torch.from_numpy(np.ascontiguousarray(self.x, np.float64))
        with torch.no_grad():
            made: Floats = self.layer(x[None, None])[0, 0].numpy()
        return made


def picture(question: Mapping[str, Any]) -> dict[str, Any]:
    """The photograph before and after the layer, and what is known of the difference."""
    room = Darkroom(question)
    made = room.developed()
    signed = is_signed(room.weight)
    left = float(_ripple(room.layer))
    return {
        "picture": room.photograph.name,
        "credit": CREDIT if room.photograph.name == SHIPPED else "",
        "kernels": names(room.spec), "kernel": room.name, "cured": room.cured,
        "can_cure": room.ripple > _SEEN, "ripple": f"{left:.1%}", "signed": signed,
        "input": _shown("input", room.x), "output": _shown("output", _in_range(made) if signed else made),
        "others": _others(room, made), "spectrum": _spectrum(room, made),
    }  # fmt: skip


_SEEN = 1e-3


def pixel(question: Mapping[str, Any]) -> dict[str, Any]:
    """One output in numbers: the inputs that it reads, grey from 0 to 255, and what each is multiplied by."""
    room = Darkroom(question)
    out = output_size(room.spec, room.size)
    at = question.get("at")
    if (
        not isinstance(at, list)
        or len(at) != 2
        or not all(isinstance(n, int) and 0 <= n < o for n, o in zip(at, out, strict=True))
    ):
        raise ArgumentError(
            f"'at' must be a place of the output: got {str(at)[:40]}; legal: [0, 0] to {list(out)}"
        )
    if prod(room.spec.kernel_size) > _MOST_TAPS:
        raise ArgumentError(f"'layer' must have few taps to be shown: got {room.spec!r}; legal: {_MOST_TAPS}")
    place = tuple(at)
    terms = [(tap, i) for tap, i in reading_at(room.spec, room.size, place) if i >= 0]
    weights, flat = room.weight.ravel(), (room.x * 255.0).ravel()
    cells = [
        {
            "row": i // room.size[1], "column": i % room.size[1], "grey": number(round(float(flat[i]))),
            "weight": "" if room.spec.is_pool else number(round(float(weights[tap]), 3)),
            "shade": round(float(flat[i]) / 255, 3),
        }
        for tap, i in terms
    ]  # fmt: skip
    value = sum(float(weights[tap]) * float(flat[i]) for tap, i in terms)
    if room.spec.is_pool:
        pads = resolved_padding(room.spec, room.size)
        whole = Example(room.spec, np.asarray(room.x * 255.0, np.float64), np.ones(1), 0.0, pads, out)
        value = pooled(whole, place).value
    return {"at": at, "cells": cells, "value": number(round(value, 1)), "out": list(out)}


def _photograph(question: Mapping[str, Any]) -> Photograph:
    sent = question.get("file")
    if sent is None:
        return ALBUM.get(text_of(question, "picture"))
    if not isinstance(sent, str):
        raise ArgumentError("'file' must be a picture as base64: got something else; legal: a PNG")
    return ALBUM.put(sent)


def _typed(spec: ConvSpec, question: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    taps = prod(spec.kernel_size)
    row = fitting(edited_of(question).kernel, taps) or range(1, taps + 1)
    return np.asarray(row, np.float64).reshape(spec.kernel_size)


def _ripple(layer: Any) -> float:
    """The pattern that a layer which enlarges leaves on a constant; none where it cannot be said."""
    if not isinstance(layer, nn.ConvTranspose2d):
        return 0.0
    try:
        return float(ripple(layer).value)
    except OutstrideError:
        return 0.0


def _in_range(made: Floats) -> Floats:
    """Numbers around 0 as greys around the middle."""
    most = max(float(np.percentile(np.abs(made), 99.5)), _ONE_GREY)
    return np.asarray(0.5 + made / most / 2)


def _shown(name: str, values: Floats) -> dict[str, Any]:
    height, width = values.shape
    return {"name": name, "png": png(values), "height": height, "width": width}


def _others(room: Darkroom, made: Floats) -> list[dict[str, Any]]:
    """What interpolation makes of the same input, where the layer enlarges."""
    if room.spec.kind != "conv_transpose":
        return []
    x = torch.from_numpy(np.ascontiguousarray(room.x))[None, None]
    size = list(made.shape)
    return [
        _shown("nearest", F.interpolate(x, size, mode="nearest")[0, 0].numpy()),
        _shown("bilinear", F.interpolate(x, size, mode="bilinear", align_corners=False)[0, 0].numpy()),
    ]


def _spectrum(room: Darkroom, made: Floats) -> dict[str, Any] | None:
    """The output's power over all frequencies, its lines at the stride's, and what share they have."""
    if room.spec.kind != "conv_transpose" or max(room.spec.stride) == 1:
        return None
    try:
        found = measure(made, room.spec.stride)
    except OutstrideError:
        return None
    windows = np.outer(*(np.hanning(n) for n in made.shape))
    power = np.log10(np.abs(np.fft.fftshift(np.fft.fft2((made - made.mean()) * windows))) ** 2 + 1e-6)
    low, high = np.percentile(power, 20), power.max()
    return {
        **_shown("spectrum", np.clip((power - low) / max(high - low, 1e-9), 0, 1)),
        "share": f"{found.share:.2%}", "ratio": number(round(found.ratio, 1)),
        "lines": [[round(i / s, 4) for i in range(-(s // 2), s // 2 + 1) if i] for s in room.spec.stride],
    }  # fmt: skip
