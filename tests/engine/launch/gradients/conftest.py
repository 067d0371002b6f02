"""A task takes what fits into the second-level cache, which is one of 1 MB here: so every choice is met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from outstride.engine.launch.gradients import gradient
from outstride.engine.planner.machine import Machine
from outstride.engine.runtime import machine


def _smaller() -> Machine:
    return replace(machine(), l2_bytes=1 << 20)


@pytest.fixture(autouse=True)
def _cache_of_1_mb() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # a test's own may be undone within it
        patch.setattr(gradient, "machine", _smaller)
        yield
