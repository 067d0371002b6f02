"""The network: convolutions on the small picture, then one transposed convolution as the upsampler."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def bicubic(small: Tensor, scale: int) -> Tensor:
    """Enlarge as torch does (Keys, a = -3/4): the sharper of the two usual filters, here the better one."""
    return F.interpolate(small, scale_factor=scale, mode="bicubic")


def shrink(large: Tensor, scale: int) -> Tensor:
    """Reduce by a bicubic filter widened against aliasing, to the 8 bits that a picture file holds."""
    size = (large.shape[-2] // scale, large.shape[-1] // scale)
    small = F.interpolate(large, size=size, mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


class SuperResolution(nn.Module):
    """Brightness at 1/scale of the size, (N, 1, H, W) in 0 to 1 -> (N, 1, H*scale, W*scale).

    The FSRCNN family (Dong, Loy and Tang 2016, arXiv:1608.00367): feature extraction, shrinking, mapping
    and expanding at the small size, where pixels are few, then a 9x9 transposed convolution. It adds to the
    bicubic enlargement, so that it starts at bicubic's quality and learns only what bicubic lacks.
    """

    def __init__(self, scale: int, features: int = 48, shrunk: int = 16, mappings: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.feature = nn.Sequential(nn.Conv2d(1, features, 5, padding=2), nn.PReLU(features))
        self.shrink = nn.Sequential(nn.Conv2d(features, shrunk, 1), nn.PReLU(shrunk))
        self.mapping = nn.Sequential(
            *(
                layer
                for _ in range(mappings)
                for layer in (nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk))
            )
        )
        self.expand = nn.Sequential(nn.Conv2d(shrunk, features, 1), nn.PReLU(features))
        # With padding 4 the output has (H-1)*scale + 1 rows and columns: output_padding adds the rest.
        self.upsample = nn.ConvTranspose2d(features, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.upsample.weight, std=1e-3)

    def forward(self, small: Tensor) -> Tensor:
        detail: Tensor = self.upsample(self.expand(self.mapping(self.shrink(self.feature(small)))))
        return bicubic(small, self.scale) + detail
