"""What kernels serve in place of torch, asked by tests: some torches compute some of it in another way.

Those for Arm do, and those before 2.10: they take the moments of group and layer norms in another order, and
the oldest an elu, batch norms of float16, variances and norms. There torch's operators compute it
(`steps.check` and `steps.agreement` decide), so there is no kernel to test (docs/guides/bits.md and
versions.md). On x86 nothing may be left to a newer torch for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from outstride.engine.launch.steps.check import declined
from outstride.engine.planner.steps import Step
from outstride.engine.runtime import compiler


def is_another_torch() -> bool:
    """Whether this torch is for Arm, or an older one: such have orders of their own."""
    return compiler.architecture() == "aarch64" or torch.__version__ < "2.10"


def is_left_to_torch(reason: str | None) -> bool:
    """Whether a reason to decline is that such a torch has other bits."""
    return reason is not None and reason.startswith("this build of torch") and is_another_torch()


def assert_served(reason: str | None) -> None:
    """Nothing declines; the test is skipped where a kernel's kind is left to torch."""
    if is_left_to_torch(reason):
        pytest.skip(str(reason))
    assert reason is None


def needs(steps: Sequence[Step], dtype: torch.dtype = torch.float32) -> None:
    """The test is of kernels that do these steps."""
    assert_served(declined(steps, dtype))
