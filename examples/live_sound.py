"""Run a network on sound as it arrives, and see whether each block is done before the next one is there.

    python examples/live_sound.py                               # a made-up recording, as slow as a microphone
    python examples/live_sound.py speech.wav --block 20 --out telephone.wav
    python examples/live_sound.py --network codec --block 40    # as much work as a neural codec, untrained
    arecord -q -t raw -f FLOAT_LE -r 24000 | python examples/live_sound.py -
    python examples/live_sound.py --microphone --seconds 10     # needs `pip install sounddevice`

The network "telephone" passes 300 to 3400 Hz and clips, so that what is saved can be listened to. Blocks come
at the pace of the sound; with --verbose a line for each says how long it took and how long after its last
sample it was done. A block that is not done when the next one is complete is late.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride import tiling
from training import begin

RATE = 24000
QUICK_SECONDS = 0.2


def telephone(rate: int) -> nn.Module:
    """A band pass by a windowed sinc, and a soft clipper, for so many samples a second."""
    taps = 481
    time_ = torch.arange(taps, dtype=torch.float64) - taps // 2

    def low_pass(hertz: float) -> Tensor:
        return 2 * hertz / rate * torch.sinc(2 * hertz / rate * time_)

    kernel = (low_pass(3400) - low_pass(300)) * torch.hann_window(taps, periodic=False, dtype=torch.float64)
    layer = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)
    layer.weight.data[:] = 3 * kernel.float()
    return nn.Sequential(layer, nn.Hardtanh()).eval()


class Causal(nn.Module):
    """A layer that looks back alone."""

    def __init__(self, channels: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layer, self.before = nn.Conv1d(channels, outputs, kernel, stride), kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(F.pad(x, (self.before, 0)))
        return made


class Spread(nn.Module):
    """A transposed layer whose results end with what they are made of."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layer, self.stride = nn.ConvTranspose1d(channels, outputs, 2 * stride, stride), stride

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return made[..., : -self.stride]


class Residual(nn.Module):
    """What is added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Causal(channels, channels // 2, 3), Causal(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.elu(self.first(F.elu(x))))
        return x + added


STEPS = (2, 4, 5, 8)
WIDTH, CODE = 16, 64


def encoder() -> nn.Module:
    """Of 320 samples a code, of the sizes of SEANet's: its weights are drawn."""
    layers, width = list[nn.Module]([Causal(1, WIDTH, 7)]), WIDTH
    for step in STEPS:
        layers += [Residual(width), nn.ELU(), Causal(width, 2 * width, 2 * step, step)]
        width *= 2
    return nn.Sequential(*layers, nn.ELU(), Causal(width, CODE, 7)).eval()


def decoder() -> nn.Module:
    """The way back."""
    width = WIDTH * 2 ** len(STEPS)
    layers = list[nn.Module]([Causal(CODE, width, 7)])
    for step in reversed(STEPS):
        layers += [nn.ELU(), Spread(width, width // 2, step), Residual(width // 2)]
        width //= 2
    return nn.Sequential(*layers, nn.ELU(), Causal(width, 1, 7), nn.Tanh()).eval()


def codec() -> nn.Module:
    """Both."""
    return nn.Sequential(encoder(), decoder())


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"telephone": telephone, "codec": lambda _: codec()}


@dataclass(frozen=True)
class Block:
    """Some samples, and when the last of them came."""

    samples: Tensor
    came: float


def made_up(seconds: float) -> Tensor:
    """Two tones that glide, and a little noise."""
    t = torch.arange(int(seconds * RATE)) / RATE
    glide = 220 * t + 60 * t.square()
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * math.pi * glide) + 0.2 * torch.sin(14 * math.pi * glide) + 0.02 * noise


def read(path: Path) -> tuple[Tensor, int]:
    """The first channel of a recording, and its samples a second."""
    soundfile = _soundfile()
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        told = f"'source' must be a recording: got {str(path)!r} ({error}); legal: a WAV file"
        raise SystemExit(told) from None
    return torch.from_numpy(samples[:, 0].copy()), int(rate)


def check_writable(path: Path) -> None:
    """See to it before anything is heard that a result can be saved."""
    soundfile = _soundfile()
    kinds = [f".{name.lower()}" for name in soundfile.available_formats()]
    if path.suffix.lower() not in kinds or not path.parent.is_dir() or path.is_dir():
        raise SystemExit(
            f"'--out' must be a file of sound in a folder that is there: got {str(path)!r}; legal: result.wav"
        )


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError:
        raise SystemExit('files are read and written by soundfile: pip install "outstride[audio]"') from None
    return soundfile


def paced(samples: Tensor, size: int, rate: int) -> Iterator[Block]:
    """Blocks of a recording when a microphone would have heard them."""
    start = time.monotonic()
    for number, part in enumerate(samples.split(size)):
        came = start + (number * size + len(part)) / rate
        time.sleep(max(came - time.monotonic(), 0))
        yield Block(part, came)


def piped(size: int) -> Iterator[Block]:
    """Blocks of float32 samples from the standard input."""
    while data := sys.stdin.buffer.read(4 * size):
        samples = np.frombuffer(data[: len(data) // 4 * 4], np.float32)
        yield Block(torch.from_numpy(samples.copy()), time.monotonic())


def heard(size: int, seconds: float) -> Iterator[Block]:
    """Blocks of a microphone."""
    try:
        import sounddevice  # type: ignore[import-not-found,unused-ignore]
    except (ImportError, OSError) as error:  # the latter where PortAudio is missing
        raise SystemExit(f"a microphone is heard by sounddevice: pip install sounddevice ({error})") from None
    with sounddevice.InputStream(RATE, size, channels=1, dtype="float32") as microphone:
        for _ in range(math.ceil(seconds * RATE / size)):
            samples, _ = microphone.read(size)
            yield Block(torch.from_numpy(samples[:, 0].copy()), time.monotonic())


def main() -> None:
    """Read the command line, push every block, and say how it went."""
    given = _arguments()
    if given.out is not None:
        check_writable(given.out)
    rate, blocks = RATE, None
    size = max(1, round(given.block / 1000 * rate))
    if given.microphone:
        blocks = heard(size, given.seconds)
    elif given.source == Path("-"):
        blocks = piped(size)
    else:
        samples = made_up(given.seconds)
        if given.source is not None:
            samples, rate = read(given.source)
            size = max(1, round(given.block / 1000 * rate))
        blocks = paced(samples, size, rate)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    live = tiling.stream(NETWORKS[given.network](rate), (1, 1, 0))
    live.prepare(size)
    print(f"{given.network}: {live.latency} samples of latency, {live.latency / rate * 1000:.1f} ms")
    results, took, late = list[Tensor](), list[float](), 0
    for number, block in enumerate(blocks):
        begun = time.monotonic()
        results.append(live.push(block.samples[None, None]))
        done = time.monotonic()
        took.append(1000 * (done - begun))
        lateness = 1000 * (done - block.came)
        late += lateness > given.block
        if given.verbose:
            print(f"block {number:4}: {took[-1]:7.2f} ms, {lateness:7.2f} ms after its last sample")
    if not took:
        raise SystemExit("'source' must hold samples: got none; legal: a recording of a block or more")
    results.append(live.close())
    share = sum(took) / (len(took) * given.block)
    print(
        f"{len(took)} blocks of {given.block:g} ms: {sum(took) / len(took):.2f} ms each, at worst "
        f"{max(took):.2f}; {share:.3f} of real time; {late} late"
    )
    if given.out is not None:
        _save(given.out, torch.cat(results, -1)[0, 0], rate)


def _save(path: Path, samples: Tensor, rate: int) -> None:
    _soundfile().write(path, samples.numpy(), rate)
    print(f"saved: {path}")


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="A network on sound as it arrives.")
    told = "a recording, of which the first channel is heard; - reads float32 samples"
    parser.add_argument("source", nargs="?", type=Path, help=told)
    parser.add_argument("--microphone", action="store_true", help="listen")
    parser.add_argument("--network", choices=NETWORKS, default="telephone", help="default: telephone")
    parser.add_argument("--block", type=float, default=20, help="ms of a block (default: 20)")
    parser.add_argument("--seconds", type=float, default=3, help="of the microphone, or made up (default: 3)")
    parser.add_argument("--out", type=Path, help="save the result as a WAV file")
    parser.add_argument("--threads", type=int, default=1, help="default: 1, for a block is little to share")
    parser.add_argument("--verbose", action="store_true", help="a line for each block")
    parser.add_argument("--quick", action="store_true", help="a few blocks, to see that everything runs")
    given = parser.parse_args()
    if given.quick:
        given.seconds = QUICK_SECONDS
    if given.threads < 1:
        parser.error(f"'--threads' must be at least 1: got {given.threads}; legal: 1")
    for name in ("block", "seconds"):
        if not 0 < getattr(given, name) < math.inf:
            parser.error(f"'--{name}' must be positive: got {getattr(given, name)}; legal: 20")
    return given


if __name__ == "__main__":
    begin(main)
