"""Which linear layers the engine serves: the layer alone decides, whatever its rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outstride.engine.launch.plans import CHANNELS_TOGETHER, DTYPES, declines

_DTYPES = (torch.float32, torch.float64)


def linear_declines(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the engine does not serve a linear layer of such a weight, or nothing.

    Args:
        shape: (out_features, in_features).
        dtype, device: those of the weight.
    """
    if dtype not in _DTYPES:
        names = " and ".join(DTYPES[each] for each in _DTYPES)
        return f"linear layers are computed in {names}, not in {str(dtype).removeprefix('torch.')}"
    if min(shape) < CHANNELS_TOGETHER:
        return f"a linear layer needs {CHANNELS_TOGETHER} features on either side to fill vectors"
    return declines(dtype, device)
