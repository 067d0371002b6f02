"""What a push of a stream costs beside the whole: ``python bench/streams.py``, minutes on one core.

The table goes into the guide, between its marks. `share` is what the accelerated whole, a long one, takes for
as much sound as a chunk; whole and pushes take turns. Times of one thread are processor times, of several
those of the clock: the least of the whole, and of eight pushes in a row; `largest` is of all pushes.
`weights` is what one thread takes to read as many bytes as the weights have, again and again: a push does so,
whatever its chunk.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride import accelerate, tiling
from outstride.bench.markdown import cells, counted, head
from outstride.output.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from live_sound import RATE, codec, decoder  # noqa: E402 - which is beside this folder
from models import Branch, Vocoder  # noqa: E402

GUIDE = ROOT / "docs" / "guides" / "tiling.md"
BEGIN, END = "<!-- measured in time -->", "<!-- end of what is measured in time -->"
PUSHES, ROUNDS, AT_ONCE, WHOLE_SECONDS = 500, 5, 8, 1.5
#: Pushes until no layer sees the beginning any more, which until then are walks through the graph.
BEGINNING = 40


class WaveNet(nn.Module):
    """Gated causal layers, dilated from 1 to 512 and again: van den Oord et al. 2016, https://arxiv.org/abs/1609.03499."""

    def __init__(self, channels: int = 32, layers: int = 20) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, channels, 1), nn.Conv1d(channels, 1, 1)
        self.dilations = [2 ** (number % 10) for number in range(layers)]
        self.gates = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 2, dilation=d) for d in self.dilations)
        self.mixing = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in self.dilations)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total = torch.zeros(1)
        for dilation, gate, mix in zip(self.dilations, self.gates, self.mixing, strict=True):
            a, b = gate(F.pad(x, (dilation, 0))).chunk(2, 1)
            made = mix(a.tanh() * b.sigmoid())
            x, total = x + made, total + made
        result: Tensor = self.last(total.relu())
        return result


def hifigan(width: int) -> nn.Module:
    """HiFi-GAN of so many channels, 256 samples a frame: https://arxiv.org/abs/2010.05646."""
    return Vocoder(width, ((8, 16), (8, 16), (2, 4), (2, 4)), Branch, nn.LeakyReLU(0.1))


@dataclass(frozen=True)
class Streamed:
    """A model, the elements of its chunks, and how many of them are a second."""

    words: str
    make: Callable[[], nn.Module]
    channels: int
    a_second: float
    chunks: tuple[int, ...]


STREAMED = {
    "hifigan": Streamed("HiFi-GAN of 128 channels", lambda: hifigan(128), 80, 22050 / 256, (1, 2, 7)),
    "hifigan_v1": Streamed("HiFi-GAN V1, of 512", lambda: hifigan(512), 80, 22050 / 256, (1, 2, 4, 8)),
    "wavenet": Streamed("WaveNet, causal, 20 layers of 32", WaveNet, 1, 16000, (160, 1280)),
    "decoder": Streamed("SEANet's decoder, 16 to 256 channels", decoder, 64, RATE / 320, (2, 6)),
    "codec": Streamed("SEANet's encoder and decoder", codec, 1, RATE, (480, 1920)),
}


def weight_bytes(model: nn.Module) -> int:
    """The bytes of a model's weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def clock(threads: int) -> Callable[[], float]:
    """What one thread takes is its own time; what several take is only seen on the clock."""
    return time.thread_time if threads == 1 else time.perf_counter


@dataclass
class Chunk:
    """Pushes of chunks of one size, each with the seconds that it took."""

    live: tiling.Stream
    part: Tensor
    seconds: list[float]

    @property
    def least(self) -> float:
        """A push of several one after the other, among which are all that there are where sizes alternate."""
        sums = [sum(self.seconds[i : i + AT_ONCE]) for i in range(len(self.seconds) - AT_ONCE + 1)]
        return min(sums) / AT_ONCE


@dataclass(frozen=True)
class Found:
    """Seconds of a chunk."""

    share: float
    weights: float
    push: float
    largest: float
    late: float


def measured(case: Streamed, threads: int, pushes: int) -> list[Found]:
    """Push chunks of each size, and run a long whole in between."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, now = case.make().eval(), clock(threads)
    sound = torch.randn(1, case.channels, int(WHOLE_SECONDS * case.a_second))
    whole, shares, sizes, reads = accelerate(model), list[float](), list[Chunk](), list[float]()
    weights = torch.zeros(weight_bytes(model) // 4)
    for chunk in case.chunks:
        live = tiling.stream(model, (1, case.channels, 0))
        live.prepare(chunk)
        sizes.append(Chunk(live, torch.randn(1, case.channels, chunk), []))
        for _ in range(BEGINNING):
            live.push(sizes[-1].part)
    rounds = max(1, min(ROUNDS, pushes // (2 * AT_ONCE)))
    with torch.inference_mode():
        whole(sound)
        for _ in range(rounds):
            begin = now()
            whole(sound)
            shares.append(now() - begin)
            for _ in range(AT_ONCE):
                begin = now()
                weights.sum()
                reads.append(now() - begin)
            for size in sizes:
                size.live.push(size.part)  # its weights are not where the others' are
                for _ in range(pushes // rounds):
                    begin = now()
                    size.live.push(size.part)
                    size.seconds.append(now() - begin)
    return [
        Found(
            min(shares) * size.part.shape[-1] / sound.shape[-1], min(reads), size.least, max(size.seconds),
            size.live.latency / case.a_second,
        )
        for size in sizes
    ]  # fmt: skip


def table(names: Sequence[str], threads: Sequence[int], pushes: int) -> Iterator[str]:
    """A line for each model and chunk, as they are found."""
    columns = ["model", "weights, MB", "latency, ms", "chunk, ms"]
    for count in threads:
        columns += [f"share, ms, {counted(count, 'thread')}"] + ["weights, ms"] * (count == 1)
        columns += ["push, ms", "of the share"]
        columns += ["of share and weights", f"largest of {pushes}, ms", "of real time"] if count == 1 else []
    yield from head(*columns)
    for name in names:
        case = STREAMED[name]
        found = [measured(case, count, pushes) for count in threads]
        own = [case.words, f"{weight_bytes(case.make()) / 1e6:.1f}", f"{1e3 * found[0][0].late:.0f}"]
        for chunk, each in zip(case.chunks, zip(*found, strict=True), strict=True):
            line = [*own, f"{1e3 * chunk / case.a_second:.3g}"]
            for count, one in zip(threads, each, strict=True):
                line += [f"{1e3 * one.share:.2f}"] + [f"{1e3 * one.weights:.2f}"] * (count == 1)
                line += [f"{1e3 * one.push:.2f}", f"{one.push / one.share:.2f}"]
                if count == 1:
                    real, both = one.push * case.a_second / chunk, one.push / (one.share + one.weights)
                    line += [f"{both:.2f}", f"{1e3 * one.largest:.1f}", f"{real:.2f}"]
            yield cells(*line)
            own = [""] * len(own)


def put(lines: Sequence[str], guide: Path, begin: str = BEGIN, end: str = END) -> None:
    """Write the table where it belongs in a page."""
    text = guide.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"'{guide}' must hold the lines {begin} and {end}")
    filled = "\n".join((f"{before}{begin}", *lines, f"{end}{after}"))
    write_whole(guide, lambda path: path.write_text(filled, encoding="utf-8"))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, and write the table."""
    parser = argparse.ArgumentParser(description="What a push of a stream costs beside the whole.")
    parser.add_argument("--models", nargs="+", choices=STREAMED, default=list(STREAMED), help="default: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--pushes", type=int, default=PUSHES, help=f"of each kind (default: {PUSHES})")
    parser.add_argument("--guide", type=Path, help="the page that the table goes into (default: none)")
    given = parser.parse_args(arguments)
    if min(given.threads) < 1:
        parser.error(f"'--threads' must be at least 1: got {min(given.threads)}; legal: 1 2")
    if given.pushes < 2 * AT_ONCE:
        parser.error(f"'--pushes' must be at least {2 * AT_ONCE}: got {given.pushes}; legal: {PUSHES}")
    lines = []
    for line in table(given.models, given.threads, given.pushes):
        print(line, flush=True)  # noqa: T201
        lines.append(line)
    if given.guide is not None:
        put(lines, given.guide)


if __name__ == "__main__":
    main()
