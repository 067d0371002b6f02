"""Mean and variance of runs of neighbours as torch's group and layer norms take them: Welford's sums.

The order is that of ``engine/codegen/maps/moments.py``: chunks of ``STEPS`` vectors that join as a binary
counter counts, so what is carried are the elements of a chunk that has not ended and one sum for each level.
Runs of as many elements go on together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from outstride.tiling.box import Box
from outstride.tiling.folds.blocks import Blocks
from outstride.tiling.folds.interface import Fold

#: Lanes of torch's vectors, and vectors of a chunk.
WIDTH, STEPS = 8, 16
_CHUNK = WIDTH * STEPS


class _Sum(NamedTuple):
    """So many steps of each lane, with their means and sums of squares about them, (runs, lanes)."""

    steps: int
    mean: Tensor
    squares: Tensor

    def joined(self, other: _Sum) -> _Sum:
        """The steps of both, the other's behind."""
        if not self.steps:
            return other
        total = self.steps + other.steps
        apart = other.mean - self.mean
        moved = apart * _quotient(other.steps, total)
        squares = torch.addcmul(self.squares + other.squares, apart * _number(self.steps), moved)
        return _Sum(total, self.mean + moved, squares)


def _number(count: int) -> Tensor:
    return torch.tensor(count, dtype=torch.float32)


def _quotient(part: int, whole: int) -> Tensor:
    return _number(part) / _number(whole)


def _chunks(vectors: Tensor) -> _Sum:
    """Those of (runs, chunks, steps, lanes), as (runs, chunks, lanes)."""
    mean, squares = (torch.zeros_like(vectors[:, :, 0]) for _ in range(2))
    for step in range(vectors.shape[2]):
        x = vectors[:, :, step].contiguous()
        before = x - mean
        mean = torch.addcmul(mean, before, torch.full_like(before, float(_quotient(1, step + 1))))
        squares = torch.addcmul(squares, before, x - mean)
    return _Sum(vectors.shape[2], mean, squares)


class Runs:
    """The moments of some runs of ``count`` elements, which arrive together."""

    def __init__(self, runs: int, count: int) -> None:
        chunks = -(-(count // WIDTH) // STEPS)
        levels = 1 if chunks <= 2 else (chunks - 1).bit_length()
        nothing = torch.zeros(runs, WIDTH)
        self._count, self._blocks = count, Blocks(runs, _CHUNK, torch.float32)
        self._levels = [_Sum(0, nothing, nothing) for _ in range(levels)]
        self._taken = [0] * levels
        """How many sums each level has taken: of every two it hands one on, but for the last."""

    def take(self, part: Tensor) -> None:
        """The next elements, (runs, count)."""
        for chunks in self._blocks.take(part):
            self._climb(0, _chunks(chunks.unflatten(2, (STEPS, WIDTH))))

    def _climb(self, level: int, sums: _Sum) -> None:
        """Sums of a level, (runs, count, lanes), in pairs to the next one."""
        count = sums.mean.shape[1]
        if level == len(self._levels) - 1:
            for place in range(count):
                self._add(level, _Sum(sums.steps, sums.mean[:, place], sums.squares[:, place]))
            return
        odd = self._taken[level] % 2
        if odd:
            held = self._levels[level]
            mean, squares = (
                torch.cat([before[:, None], after], 1)
                for before, after in ((held.mean, sums.mean), (held.squares, sums.squares))
            )
            sums = _Sum(sums.steps, mean, squares)
        self._taken[level] += count
        pairs = sums.mean.shape[1] // 2
        first, second = (
            _Sum(sums.steps, sums.mean[:, side : 2 * pairs : 2], sums.squares[:, side : 2 * pairs : 2])
            for side in (0, 1)
        )
        last = slice(2 * pairs, None)
        left = sums.mean[:, last].sum(1), sums.squares[:, last].sum(1)
        self._levels[level] = _Sum(sums.steps if sums.mean.shape[1] % 2 else 0, *left)
        if pairs:
            self._climb(level + 1, first.joined(second))

    def _add(self, level: int, sums: _Sum) -> None:
        self._levels[level] = self._levels[level].joined(sums)
        self._taken[level] += 1

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each run."""
        steps, raw = self._count // WIDTH, self._blocks.rest
        rest = raw.shape[1] // WIDTH
        if rest:
            part = _chunks(raw[:, : rest * WIDTH].reshape(len(raw), 1, rest, WIDTH))
            self._add(0, _Sum(rest, part.mean[:, 0], part.squares[:, 0]))
            level = 0
            while level + 1 < len(self._levels) and self._taken[level] % 2 == 0:
                self._add(level + 1, self._levels[level])
                self._levels[level] = _Sum(0, *self._levels[level][1:])
                level += 1
        lanes = self._levels[0]
        for sums in self._levels[1:]:
            if sums.steps:
                lanes = lanes.joined(sums)
        return self._with_the_rest(lanes, steps, raw[:, rest * WIDTH :])

    def _with_the_rest(self, lanes: _Sum, steps: int, rest: Tensor) -> tuple[Tensor, Tensor]:
        """What fills no vector, and behind it lane after lane."""
        mean, squares = (torch.zeros(len(rest)) for _ in range(2))
        for place in range(rest.shape[1]):
            before = rest[:, place] - mean
            mean = mean + before / (place + 1)
            squares = squares + before * (rest[:, place] - mean)
        there = rest.shape[1]
        for lane in range(WIDTH if steps else 0):
            following = there + steps
            share = _quotient(steps, following).expand(len(rest)).contiguous()
            apart = lanes.mean[:, lane] - mean
            mean = torch.addcmul(mean, share, apart)
            weighed = apart * apart * share
            number = torch.full_like(mean, float(_number(there)))
            squares = squares + torch.addcmul(lanes.squares[:, lane].contiguous(), weighed, number)
            there = following
        return mean, squares / _number(self._count)


class GroupMoments(Fold):
    """Mean and inverse deviation of each group of neighbouring channels of each image of (N, C, *size).

    Groups of one channel each arrive together, in slabs; of larger ones some come whole, or one channel after
    the other. ``wide_root``: whether the deviation is that of float64, rounded, as in group norms.
    """

    def __init__(self, shape: tuple[int, ...], groups: int, eps: float, wide_root: bool) -> None:
        self._width, self._eps, self._wide_root = shape[1] // groups, eps, wide_root
        self._count = self._width * torch.Size(shape[2:]).numel()
        self._found: list[list[Runs]] = [[] for _ in range(shape[0])]

    def take(self, walk: int, box: Box, part: Tensor) -> None:
        """The next rows of all channels, all of some groups, or the next rows of one channel of a group."""
        del walk
        first = box[1][0] % self._width == 0 and all(a == 0 for a, _ in box[2:])
        for number, image in enumerate(part, box[0][0]):
            runs = image.reshape(max(len(image) // self._width, 1), -1)
            if first:
                self._found[number].append(Runs(len(runs), self._count))
            self._found[number][-1].take(runs)

    def result(self) -> tuple[Tensor, Tensor]:
        """(N, groups) each."""
        found = [[runs.result() for runs in image] for image in self._found]
        mean, variance = (
            torch.stack([torch.cat([statistics[which] for statistics in image]) for image in found])
            for which in (0, 1)
        )
        root = np.float64 if self._wide_root else np.float32
        inverse = root(1) / np.sqrt(variance.numpy().astype(root) + root(self._eps))
        return mean, torch.from_numpy(inverse.astype(np.float32))
