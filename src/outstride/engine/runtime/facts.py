"""What can be said about the runtime on this machine."""

from __future__ import annotations

import os
import platform

from outstride.engine.runtime import (
    algorithm,
    cache,
    compiler,
    host,
    processors,
    second_level,
    systems,
    threads,
)


def info() -> dict[str, object]:
    """Versions, processor, instruction set, thread pool and cache, as plain values."""
    reason = host.decline()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "system": systems.here(),
        "compiler": compiler.version(),
        "cpu": compiler.host_cpu(),
        "cpu_count": os.cpu_count(),
        "cpus_usable": processors.usable(),
        "cpu_share": processors.share(),
        "instruction_sets": list(host.available()),
        "probe": host.probed(),
        "instruction_set": None if reason else host.machine().instruction_set.name,
        "declines": reason,
        "algorithm": algorithm.resolved("auto"),
        "l2_bytes": None if reason else host.machine().l2_bytes,
        "l2_from": None if reason else second_level.found()[1],
        "openmp": threads.pool(),
        "dtypes": ["float32", "float64", "bfloat16", "float16"],
        "cache_path": str(cache.path()),
        "cache_bytes": cache.size_bytes(),
        "cache_entries": len(cache.entries()),
    }
