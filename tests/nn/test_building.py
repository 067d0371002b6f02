"""A layer made from its description describes itself the same, and torch makes the same of it."""

from __future__ import annotations

import pytest
import torch

from outstride import ConvSpec
from outstride.nn.building import built

LAYERS = [
    "Conv2d(4, 6, (3, 5), stride=2, padding=((1, 0), (2, 2)), dilation=(1, 2), groups=2, bias=False)",
    "Conv1d(2, 2, 3, padding='same', padding_mode='circular')",
    "ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1)",
    "MaxPool2d(3, stride=2, padding=((1, 0), (0, 1)), dilation=2)",
    "MaxPool1d(3, stride=2, ceil_mode=True)",
    "AvgPool2d(3, stride=2, padding=1, count_include_pad=False, divisor_override=5)",
    "AvgPool1d(3, padding='same')",
]


@pytest.mark.parametrize("text", LAYERS)
def test_what_is_built_describes_itself_as_it_was_described(text: str) -> None:
    spec = ConvSpec.parse(text)
    made = built(spec)
    assert ConvSpec.of(made) == spec
    assert not made.training
    assert type(made).__module__.startswith("outstride.nn")


def test_weights_have_the_type_and_the_device_that_are_asked() -> None:
    made = built(ConvSpec.parse("Conv2d(3, 8, 3)"), torch.float64, "meta")
    assert {(weight.dtype, weight.device.type) for weight in made.parameters()} == {(torch.float64, "meta")}
