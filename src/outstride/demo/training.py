"""Train for a given time, or a given number of steps, and stop early when asked."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from outstride.demo.data import Patches

BATCH = 8
LEARNING_RATE = 2e-3
LONGEST_STEP_NORM = 1.0


@dataclass(frozen=True)
class Budget:
    """How long to train: seconds, or exactly so many steps where they are given."""

    seconds: float
    steps: int | None = None

    def used(self, seconds: float, steps: int) -> float:
        """The share that is spent, 0 to 1 and beyond."""
        return seconds / self.seconds if self.steps is None else steps / self.steps


@dataclass(frozen=True)
class Training:
    """What a training came to."""

    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    interrupted: bool


class Interruption:
    """The first Ctrl-C asks for an end, the second ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        # Only the main thread may choose what a signal does; elsewhere Ctrl-C keeps its meaning.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def train(
    network: nn.Module, patches: Patches, budget: Budget, progress: Callable[[float, int, float], None]
) -> Training:
    """Fit the network to the patches by the mean absolute error.

    Args:
        network: takes (N, 1, P, P), gives (N, 1, P*scale, P*scale).
        patches: where pairs are drawn from.
        budget: when to end; the learning rate falls to zero with it, along half a cosine.
        progress: told the share of the budget that is spent, the steps made and the present loss.

    Returns:
        Steps, seconds, the loss at the beginning and at the end, and whether Ctrl-C ended it.

    Raises:
        KeyboardInterrupt: at the second Ctrl-C, or at the first where no step was made.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    begin, steps, recent = time.perf_counter(), 0, 0.0
    first_loss = float("nan")
    with Interruption() as interruption:
        while not interruption.asked and (used := budget.used(time.perf_counter() - begin, steps)) < 1:
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * used))
            small, large = patches.draw(BATCH)
            optimiser.zero_grad()
            loss = F.l1_loss(network(small), large)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), LONGEST_STEP_NORM)
            optimiser.step()
            steps += 1
            # Patches differ more than steps improve: what is shown is a running mean.
            recent = loss.item() if steps == 1 else 0.98 * recent + 0.02 * loss.item()
            first_loss = recent if steps == 1 else first_loss
            progress(used, steps, recent)
    if steps == 0:
        raise KeyboardInterrupt
    if not interruption.asked:
        progress(1.0, steps, recent)
    return Training(steps, time.perf_counter() - begin, first_loss, recent, interruption.asked)
