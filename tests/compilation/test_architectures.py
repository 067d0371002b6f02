"""Whole models that nobody here wrote have the bits of the accelerated ones when they are compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import outstride
from tests.architectures import smp, timm
from tests.tolerance import assert_same_bits

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    **{
        name: lambda name=name: timm(name)  # type: ignore[misc]  # mypy takes no default for a parameter
        for name in (
            "resnet18", "efficientnet_b0", "mobilenetv3_small_100", "convnext_atto", "regnety_002",
            "densenet121", "hrnet_w18_small", "ghostnet_100", "mixnet_s", "res2net50_14w_8s", "mobilevit_xxs",
            "vgg11_bn",
        )
    },
    **{
        name: lambda name=name: smp(name)  # type: ignore[misc]
        for name in ("Unet", "UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3Plus", "Linknet")
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture(name: str) -> None:
    """In an arena, in channels_last, and on more images."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)  # type: ignore[arg-type]  # these norms have one
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    served, fast = outstride.accelerate(model), torch.compile(model, backend="outstride")
    one, other, two = (torch.randn(n, 3, 64, 64) for n in (1, 1, 2))
    with torch.no_grad():
        for x in (one, other, one.contiguous(memory_format=torch.channels_last), two, two):
            found, expected = (pytree.tree_leaves(run(x)) for run in (fast, served))
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                assert_same_bits(a, b, name)
                assert a.stride() == b.stride()
