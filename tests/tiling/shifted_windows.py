"""A layer of attention in windows that are shifted, as Swin has it, on maps of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def parted(x: Tensor, window: int) -> Tensor:
    """(N, H, W, C) as (windows, positions, C)."""
    n, h, w, c = x.shape
    x = x.view(n, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def joined(x: Tensor, window: int, size: tuple[int, int, int]) -> Tensor:
    """And back."""
    n, h, w = size
    x = x.view(n, h // window, w // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, -1)


class ShiftedWindows(nn.Module):
    """Norm, attention in windows with a bias by distance, norm, two linear layers."""

    def __init__(self, channels: int, window: int, heads: int, shift: int, fused: bool = False) -> None:
        super().__init__()
        self.window, self.heads, self.shift, self.fused = window, heads, shift, fused
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.qkv, self.last = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.table = nn.Parameter(0.1 * torch.randn((2 * window - 1) ** 2, heads))
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = places[:, None] - places[None] + window - 1
        self.index = apart[..., 0] * (2 * window - 1) + apart[..., 1]

    def mask(self, h: int, w: int) -> Tensor:
        """Between positions that lie beside each other by the shift alone."""
        regions, count = torch.zeros(1, h, w, 1), 0
        cuts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for rows in cuts:
            for columns in cuts:
                regions[:, rows, columns] = count
                count += 1
        found = parted(regions, self.window)[..., 0]
        differ = found[:, None] - found[:, :, None]
        return differ.masked_fill(differ != 0, -100.0)

    def attended(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Of (windows, positions, C)."""
        count, positions, channels = x.shape
        q, k, v = self.qkv(x).view(count, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            made = nn.functional.scaled_dot_product_attention(
                q, k, v, self.table[self.index].permute(2, 0, 1)
            )
            fused: Tensor = self.last(made.transpose(1, 2).reshape(count, positions, channels))
            return fused
        weights = (q * 0.3) @ k.transpose(-2, -1)
        weights = weights + self.table[self.index].permute(2, 0, 1)
        if mask is not None:
            weights = weights.view(-1, len(mask), self.heads, positions, positions) + mask[None, :, None]
            weights = weights.flatten(0, 1)
        made = weights.softmax(-1) @ v
        result: Tensor = self.last(made.transpose(1, 2).reshape(count, positions, channels))
        return result

    def forward(self, x: Tensor) -> Tensor:
        h, w, s = x.shape[2], x.shape[3], self.window
        x = nn.functional.pad(x, (0, -w % s, 0, -h % s)).permute(0, 2, 3, 1)
        size = (x.shape[0], x.shape[1], x.shape[2])
        moved = self.norms[0](x)
        mask = None
        if self.shift:
            moved = moved.roll((-self.shift, -self.shift), (1, 2))
            mask = self.mask(*size[1:])
        moved = joined(self.attended(parted(moved, s), mask), s, size)
        if self.shift:
            moved = moved.roll((self.shift, self.shift), (1, 2))
        x = x + moved
        x = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        return x[:, :h, :w].permute(0, 3, 1, 2)
