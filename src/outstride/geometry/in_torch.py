"""What this package's layers take and torch's layers of the same name refuse."""

from __future__ import annotations

from outstride.layer.spec import ConvSpec

_LARGEST = 2**63 - 1


def torch_refuses(spec: ConvSpec) -> tuple[str, ...]:
    """Why torch's own layer would refuse these arguments: nothing where it takes them.

    Example:
        >>> torch_refuses(ConvSpec.parse("Conv2d(3, 8, 3, stride=2, padding='same')"))
        ("torch has padding='same' for a stride of 1 alone",)
    """
    reasons = []
    transposed = spec.kind == "conv_transpose"
    if spec.padding != "same":
        if any(low != high for low, high in spec.padding):
            reasons.append("torch's layers take one padding for both sides of an axis")
        if spec.kind == "max_pool" and any(
            max(pair) > k // 2 for pair, k in zip(spec.padding, spec.kernel_size, strict=True)
        ):
            reasons.append("torch pads a maximum by at most half of kernel_size, dilation left aside")
    elif transposed or spec.is_pool:
        reasons.append(f"torch's {'transposed' if transposed else 'pooling'} layers have no padding='same'")
    elif max(spec.stride) > 1:
        reasons.append("torch has padding='same' for a stride of 1 alone")
    if transposed and spec.padding_mode != "zeros":
        reasons.append("torch's transposed layers have no padding_mode but 'zeros'")
    if (spec.in_channels if transposed else spec.out_channels) == 0:
        reasons.append(f"torch wants at least one of {'in' if transposed else 'out'}_channels")
    if max(_numbers(spec)) > _LARGEST:
        reasons.append("torch's numbers end at 2**63 - 1")
    return tuple(reasons)


def _numbers(spec: ConvSpec) -> list[int]:
    sides = [] if spec.padding == "same" else [side for pair in spec.padding for side in pair]
    channels = [spec.in_channels or 0, spec.out_channels or 0, spec.groups]
    return [*spec.kernel_size, *spec.stride, *spec.dilation, *spec.output_padding, *sides, *channels]
