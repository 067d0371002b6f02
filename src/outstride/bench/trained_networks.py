"""Networks to train in some seconds, on a picture that is installed and a sound that is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, SIDE, SHOWN = 4, 64, slice(128, 384)  # side of a patch; which rows and columns are judged
HOP, FRAMES, RATE, SECONDS = 64, 48, 16000, 3


@dataclass(frozen=True)
class Task:
    """A network, what it learns (the loss of a batch), and the input on which it is judged."""

    network: nn.Module
    loss: Callable[[nn.Module, torch.Generator], Tensor]
    shown: Tensor


def photograph() -> Tensor:
    """Rear Admiral Grace Hopper (US Navy, public domain; comes with matplotlib): (1, 3, H, W) in 0 to 1."""
    from matplotlib import get_data_path
    from matplotlib.image import imread

    pixels = imread(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255


def voice() -> Tensor:
    """Some seconds of a sung vowel that changes, made of harmonics: (1, 1, samples) in -1 to 1."""
    t = torch.arange(SECONDS * RATE, dtype=torch.float64) / RATE
    pitch = 140 * 2 ** (0.4 * torch.sin(2.1 * t) + 0.02 * torch.sin(35 * t))
    phase = 2 * torch.pi * torch.cumsum(pitch, 0) / RATE
    k = torch.arange(1, 30)[:, None]
    strength = torch.zeros(len(k), len(t), dtype=torch.float64)
    for base, moves, wide in ((600, 200, 120), (1400, 500, 180), (2700, 200, 250)):  # three formants
        strength += torch.exp(-(((k * pitch - base - moves * torch.sin(3.3 * t)) / wide) ** 2))
    sound = (strength * torch.sin(k * phase)).sum(0) * (0.6 + 0.4 * torch.sin(8 * t))
    return (sound / sound.abs().max()).float()[None, None]


def _patches(picture: Tensor, draws: torch.Generator) -> Tensor:
    height, width = picture.shape[2:]
    places = (torch.randint(n - SIDE + 1, (BATCH,), generator=draws).tolist() for n in (height, width))
    corners = zip(*places, strict=True)
    return torch.cat([picture[..., i : i + SIDE, j : j + SIDE] for i, j in corners])


class Skip(nn.Module):
    """x + f(x)."""

    def __init__(self, *inside: nn.Module) -> None:
        super().__init__()
        self.inside = nn.Sequential(*inside)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.inside(x))


def enlarging() -> Task:
    """A photograph at half its size, enlarged: residual blocks at the small size, then a transposed layer."""
    blocks = [
        Skip(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)) for _ in range(3)
    ]
    last = nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1)
    network, picture = nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), *blocks, last), photograph()

    def loss(served: nn.Module, draws: torch.Generator) -> Tensor:
        large = _patches(picture, draws)
        return F.l1_loss(served(F.avg_pool2d(large, 2)), large)

    return Task(network, loss, F.avg_pool2d(picture[..., SHOWN, SHOWN], 2))


class UNet(nn.Module):
    """Three sizes, halved by pooling and doubled by transposed layers, beside each other where they meet."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(_twice(i, o) for i, o in ((3, widths[0]), *pairs))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, stride=2) for i, o in reversed(pairs))
        self.mix = nn.ModuleList(_twice(2 * i, i) for i, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, down in enumerate(self.down):
            kept.append(down(F.max_pool2d(kept[-1], 2) if level else x))
        y = kept.pop()
        for up, mix in zip(self.up, self.mix, strict=True):
            y = mix(torch.cat((kept.pop(), up(y)), 1))
        return x + cast(Tensor, self.last(y))


def _twice(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())


def denoising() -> Task:
    """A photograph under noise, cleaned by a U-Net."""
    picture = photograph()

    def loss(served: nn.Module, draws: torch.Generator) -> Tensor:
        clean = _patches(picture, draws)
        return F.mse_loss(served(clean + 0.1 * torch.randn(clean.shape, generator=draws)), clean)

    shown = picture[..., SHOWN, SHOWN]
    return Task(
        UNet(), loss, shown + 0.1 * torch.randn(shown.shape, generator=torch.Generator().manual_seed(2))
    )


def spectrum(sound: Tensor, size: int) -> Tensor:
    """Magnitudes of a sound, (N, 1, samples) to (N, size / 2 + 1, samples / HOP)."""
    padded = F.pad(sound, ((size - HOP) // 2,) * 2, mode="reflect")[:, 0]
    found = torch.stft(padded, size, HOP, window=torch.hann_window(size), center=False, return_complex=True)
    return found.abs().clamp_min(1e-4)


def speaking() -> Task:
    """A voice from its spectrum: a small vocoder, 64 times as many samples as frames."""
    network = nn.Sequential(nn.Conv1d(129, 128, 7, padding=3))
    for i, o in ((128, 64), (64, 64)):
        network.extend([nn.LeakyReLU(0.1), nn.ConvTranspose1d(i, o, 16, stride=8, padding=4)])
        for kernel, dilation in ((3, 1), (7, 1), (11, 1), (3, 3)):
            reach = kernel // 2 * dilation
            network.append(Skip(nn.LeakyReLU(0.1), nn.Conv1d(o, o, kernel, padding=reach, dilation=dilation)))
    network.extend([nn.LeakyReLU(0.1), nn.Conv1d(64, 1, 7, padding=3), nn.Tanh()])
    sound = voice()

    def loss(served: nn.Module, draws: torch.Generator) -> Tensor:
        starts = torch.randint(sound.shape[2] - HOP * FRAMES, (BATCH,), generator=draws).tolist()
        wanted = torch.cat([sound[..., s : s + HOP * FRAMES] for s in starts])
        made = served(spectrum(wanted, 256).log())
        pairs = [(spectrum(made, size), spectrum(wanted, size)) for size in (256, 512)]
        return sum((F.l1_loss(a, b) + F.l1_loss(a.log(), b.log()) for a, b in pairs), torch.zeros(()))

    return Task(network, loss, spectrum(sound[..., : HOP * 400], 256).log())


TASKS = {
    "a photograph enlarged": enlarging,
    "a photograph cleaned by a U-Net": denoising,
    "a vocoder": speaking,
}
