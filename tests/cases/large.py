"""Layers too large for loops."""

from __future__ import annotations

from tests.cases.layer_case import CONV, TRANSPOSED, Case, case

#: Large enough that threads share the work and every cache block repeats; judged by float64 torch, not loops.
LARGE_CASES: tuple[Case, ...] = (
    case("large-resnet-3x3", CONV, (28, 28), 3, (64, 64), padding=1, batch=1),
    case("large-resnet-stem", CONV, (112, 112), 7, (3, 64), stride=2, padding=3, batch=1),
    case("large-pointwise", CONV, (14, 14), 1, (256, 96), batch=2),
    case("large-depthwise", CONV, (56, 56), 3, (64, 64), padding=1, groups=64, batch=1),
    case("large-batch", CONV, (9, 9), 3, (16, 24), padding=1, batch=33),
    case("large-groups", CONV, (27, 27), 5, (48, 64), padding=2, groups=2, batch=1),
    case("large-dilated", CONV, (33, 33), 3, (64, 32), padding=12, dilation=12, batch=1),
    case("large-dilated-runs", CONV, (700,), 3, (128, 136), padding=3, dilation=3, batch=1),
    case("large-dilated-in-two-axes", CONV, (33, 30), 3, (64, 72), padding=2, dilation=2, batch=1),
    case("large-hifigan-residual", CONV, (1811,), 11, (64, 64), padding=25, dilation=5, batch=1),
    case("large-thin-output", CONV, (7244,), 7, (32, 1), padding=3, batch=1),
    case("large-unet3d", CONV, (12, 12, 12), 3, (32, 32), padding=1, batch=1),
    case("large-odd", CONV, (61, 67), 3, (33, 47), padding=1, stride=(2, 1), batch=1),
    case("large-hifigan", TRANSPOSED, (283,), 16, (128, 64), stride=8, padding=4, batch=1),
    case("large-istft", TRANSPOSED, (56,), 256, (130, 1), stride=64, batch=1),
    case("large-dcgan", TRANSPOSED, (8, 8), 4, (128, 64), stride=2, padding=1, batch=8),
    case("large-dcgan-rgb", TRANSPOSED, (32, 32), 4, (64, 3), stride=2, padding=1, batch=4),
    case("large-cyclegan", TRANSPOSED, (32, 32), 3, (64, 32), stride=2, padding=1, output_padding=1, batch=1),
    case("large-unet", TRANSPOSED, (32, 32), 2, (96, 48), stride=2, batch=1),
    case("large-fcn8s", TRANSPOSED, (27, 35), 16, (21, 21), stride=8, batch=1),
    case("large-fsrcnn", TRANSPOSED, (60, 90), 9, (56, 1), stride=2, padding=4, output_padding=1, batch=1),
    case("large-depthwise-up", TRANSPOSED, (32, 32), 8, (64, 64), stride=4, padding=2, groups=64, batch=1),
    case("large-depthwise-1d", TRANSPOSED, (4099,), 12, (24, 24), stride=2, groups=24, batch=2),
    case("large-unet3d-up", TRANSPOSED, (8, 8, 8), 3, (48, 32), stride=2, padding=1, batch=1),
    case("large-dilated-up", TRANSPOSED, (33, 33), 3, (40, 24), stride=2, dilation=3, padding=2, batch=1),
)
