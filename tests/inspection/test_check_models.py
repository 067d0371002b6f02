"""`outstride.check` on architectures that nobody here wrote: timm, segmentation-models, transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from outstride import check
from outstride.inspection import Report
from outstride.inspection.field import Field
from tests.architectures import smp, timm, transformer
from tests.probing import first, positive


class Expected(NamedTuple):
    """What is known of an architecture from its paper or its code."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    stride: str | None
    """Stride of the first output; None where no position is left."""
    sizes: str
    whole: Sequence[str] = ()
    """Parts of the names of layers that look at the whole image; empty where there are none."""


ARCHITECTURES: dict[str, Expected] = {
    "resnet18": Expected(lambda: timm("resnet18"), (1, 3, 64, 64), None, "any from 1", ["global_pool"]),
    "resnet18 features": Expected(
        lambda: timm("resnet18", features_only=True, out_indices=(4,)), (1, 3, 64, 64), "32", "any from 1"
    ),
    "efficientnet_b0": Expected(
        lambda: timm("efficientnet_b0"), (1, 3, 64, 64), None, "any from 1", [".se", "global_pool"]
    ),
    "convnext_atto": Expected(
        lambda: timm("convnext_atto"), (1, 3, 64, 64), None, "any from 32", ["global_pool"]
    ),
    "vit_tiny": Expected(
        lambda: timm("vit_tiny_patch16_224", depth=2), (1, 3, 224, 224), None, "only 224", ["blocks.0.attn"]
    ),
    "swin_tiny": Expected(
        lambda: timm("swin_tiny_patch4_window7_224"), (1, 3, 224, 224), None, "only 224", ["layers.3"]
    ),
    "linknet": Expected(lambda: smp("Linknet"), (1, 3, 64, 64), "1", "n = 0 mod 32, from 32"),
    "unet": Expected(lambda: smp("Unet"), (1, 3, 64, 64), "1", "any from 1"),
    "deeplab": Expected(
        lambda: smp("DeepLabV3Plus").eval(), (1, 3, 64, 64), "48/63", "", ["aspp.0.convs.4"]
    ),
}  # fmt: skip


def report_of(name: str) -> Report:
    expected = ARCHITECTURES[name]
    return check(expected.make(), expected.shape)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name: str) -> None:
    expected = ARCHITECTURES[name]
    model = expected.make()
    report = check(model, expected.shape)
    assert report.not_understood == ()
    assert report.without_numbers
    if expected.stride is None:
        assert report.output_fields == ()
    elif "/" not in expected.stride:
        assert [str(field.stride) for _, field in report.output_fields] == [expected.stride] * 2
    assert not expected.sizes or [str(sizes) for sizes in report.sizes] == [expected.sizes] * 2
    names = [row.name or row.kind for row in report.global_layers]
    assert bool(names) == bool(expected.whole)
    for part in expected.whole:
        assert any(part in name for name in names), names
    with torch.no_grad():
        result = first(model.eval()(torch.zeros(expected.shape)))
    assert tuple(result.shape) == report.outputs[0]
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert all(row.engine == "served" for row in report.layers if row.kind == "Conv2d")


def reached(model: nn.Module, shape: Sequence[int], positions: Sequence[int]) -> list[list[int]]:
    """For each position along the width the output positions along it where its NaN arrives."""
    x = torch.ones((len(positions), *shape[1:]), dtype=torch.float64)
    for image, position in zip(x, positions, strict=True):
        image[..., position] = torch.nan
    with torch.no_grad():
        out: Tensor = first(model(x)).isnan()
    return [image.any(dim=0).any(dim=0).nonzero().flatten().tolist() for image in out]


def declared(field: Field, outputs: int, position: int) -> list[int]:
    reads = [field.at(q) for q in range(outputs)]
    return [q for q, read in enumerate(reads) if read is not None and read[0] <= position <= read[1]]


Make = Callable[[], nn.Module]
PROBED: dict[str, tuple[Make, tuple[int, ...], list[int]]] = {
    "stem and first stage": (
        lambda: timm("resnet18", features_only=True, out_indices=(2,)), (1, 3, 16, 192), list(range(80, 96)),
    ),
    "antialiased": (
        lambda: timm("resnetblur18", features_only=True, out_indices=(2,)), (1, 3, 16, 192), [90, 91, 92, 93],
    ),
    "inverted residuals": (
        lambda: timm("mobilenetv2_050", features_only=True, out_indices=(3,)), (1, 3, 32, 384), [190, 203],
    ),
    "strided, then transposed": (lambda: smp("Linknet"), (1, 3, 32, 1216), [600, 607, 613, 631]),
    "strided, then resized": (lambda: smp("Unet"), (1, 3, 32, 1216), [600, 607, 613, 631]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBED)
def test_field_is_what_nan_shows(name: str) -> None:
    make, shape, positions = PROBED[name]
    model = positive(make())
    report = check(model, shape, sizes=False)
    field = dict(report.output_fields)[1]
    outputs = report.outputs[0][-1]
    for position, found in zip(positions, reached(model, shape, positions), strict=True):
        assert found == declared(field, outputs, position), position
        assert 0 < found[0] <= found[-1] < outputs - 1, "the field must lie inside the image to be tested"


def test_known_misalignments_are_found() -> None:
    """A strided 3x3 layer shifts by half a pixel of its own, so skips of each depth by another amount."""
    report = check(smp("Unet"), (1, 3, 64, 64), sizes=False)
    places = [[str(offset) for _, offset in row.notes[0].places[0]] for row in report.misaligned]
    assert places == [["-31/2", "-15/2"], ["-31/2", "-7/2"], ["-31/2", "-3/2"], ["-31/2", "-1/2"]]


TRANSFORMERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str | None]] = {
    "segformer": (
        lambda: transformer("SegformerForSemanticSegmentation", "SegformerConfig"), (1, 3, 64, 64), "4",
    ),
    "vit": (lambda: transformer("ViTModel", "ViTConfig", num_hidden_layers=2), (1, 3, 224, 224), "16"),
    "swin2sr": (
        lambda: transformer(
            "Swin2SRForImageSuperResolution", "Swin2SRConfig", depths=[2, 2], num_heads=[2, 2], embed_dim=36
        ),
        (1, 3, 64, 64), "1/2",
    ),
    "dpt": (
        lambda: transformer(
            "DPTForDepthEstimation", "DPTConfig", num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3]
        ),
        (1, 3, 384, 384), "352/383",
    ),
    "convnextv2": (lambda: transformer("ConvNextV2Model", "ConvNextV2Config"), (1, 3, 64, 64), "32"),
    "wav2vec2": (
        lambda: transformer("Wav2Vec2Model", "Wav2Vec2Config", num_hidden_layers=1), (1, 16000), "320",
    ),
    "univnet": (lambda: transformer("UnivNetModel", "UnivNetConfig"), (1, 50, 100), None),
    "encodec": (lambda: transformer("EncodecModel", "EncodecConfig"), (1, 1, 9600), None),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    make, shape, stride = TRANSFORMERS[name]
    report = check(make(), shape, sizes=False)
    if stride is not None:
        assert report.not_understood == ()
        assert {str(field.stride) for _, field in report.output_fields} == {stride}
    assert report.multiply_adds > 0
    assert str(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    "resnet50 densenet121 inception_v3 dla34 res2net50_26w_4s hrnet_w18_small vgg11 nfnet_f0 regnety_002 "
    "tf_efficientnet_b0 mobilenetv3_small_100 ghostnet_100 cspdarknet53 repvgg_a0 skresnet18 convnext_tiny "
    "swin_tiny_patch4_window7_224 vit_tiny_patch16_224 beit_base_patch16_224 coat_tiny volo_d1_224 nest_tiny "
    "maxvit_tiny_tf_224 mobilevit_s edgenext_small poolformer_s12 twins_svt_small pvt_v2_b0 "
    "xcit_nano_12_p16_224 "
    "crossvit_15_240 focalnet_tiny_srf mixer_s16_224 fastvit_t8 davit_tiny levit_128".split(),
)
def test_every_architecture_is_understood(name: str) -> None:
    model = timm(name)
    size = int(vars(model)["default_cfg"]["input_size"][-1])
    report = check(model, (1, 3, size, size), sizes=False)
    assert report.not_understood == ()
    assert report.global_layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Unet", "UnetPlusPlus", "Linknet", "FPN", "PSPNet", "DeepLabV3", "PAN", "UPerNet"]
)
def test_every_segmentation_model_is_understood(name: str) -> None:
    report = check(smp(name), (1, 3, 128, 128))
    assert report.not_understood == ()
    for axis, sizes in enumerate(report.sizes):
        assert sizes is not None
        for size in range(124, 134):
            shape = [1, 3, 128, 128]
            shape[2 + axis] = size
            try:
                smp(name).eval()(torch.zeros(shape))
            except (RuntimeError, ValueError):
                assert size not in sizes
            else:
                assert size in sizes
