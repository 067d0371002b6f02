"""What "auto" asks for in this process: the environment may say that it is "direct"."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import cast

from outstride.layer.arguments import choice
from outstride.layer.shortening import ALGORITHMS, AlgorithmName


def resolved(algorithm: AlgorithmName) -> AlgorithmName:
    """What a call asks for that names an algorithm: "auto" is what OUTSTRIDE_ALGORITHM says, if it is set.

    Raises:
        ArgumentError: the variable holds no such name.
    """
    return _usual() if algorithm == "auto" else algorithm


@lru_cache(maxsize=1)
def _usual() -> AlgorithmName:
    """The environment's word, read at the first "auto"."""
    name = os.environ.get("OUTSTRIDE_ALGORITHM") or "auto"
    choice("OUTSTRIDE_ALGORITHM", name, ALGORITHMS)
    return cast(AlgorithmName, name)
