"""Element types by name: how large their elements are, in tensors and in sums; and how tensors lie."""

from __future__ import annotations

from typing import Literal

#: The axis of a tensor that has stride 1: its width, its channels, or none of them ("any").
Unit = Literal["width", "channel", "any"]

#: The axis of a weight along which vectors of it are read where it lies.
WeightAxis = Literal["channel", "output"]

#: Bytes of an element as tensors keep it, and as kernels sum it (and keep packed inputs and weights).
STORAGE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
ACCUMULATOR_BYTES = {"float32": 4, "float64": 8, "bfloat16": 4, "float16": 4}
