"""Kernels of pooling, of norms and of pointwise operators, as they are compiled for an instruction set."""

from __future__ import annotations

from outstride.engine.codegen.maps.group_norms import group_norm_source
from outstride.engine.codegen.maps.joining import joining_source
from outstride.engine.codegen.maps.layer_norms import layer_norm_source
from outstride.engine.codegen.maps.linear_pixels import linear_pixels_source
from outstride.engine.codegen.maps.linear_rows import linear_rows_source
from outstride.engine.codegen.maps.means import mean_channels_source, mean_rows_source
from outstride.engine.codegen.maps.normalisation import instance_norm_source
from outstride.engine.codegen.maps.padding import padding_source
from outstride.engine.codegen.maps.pointwise import pointwise_source
from outstride.engine.codegen.maps.pooling_channels import pooling_channels_source
from outstride.engine.codegen.maps.pooling_rows import pooling_rows_source
from outstride.engine.codegen.maps.rearrangement import SOURCES, rearrangement_source
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.maps.means import FOUR, ONE, SumOrder
from tests.engine.planner.chains import CHAINS

DTYPES = ("float32", "float64")


def map_sources(isa: str) -> dict[str, str]:
    """The text of every kind of kernel; the names of those that divide, as torch does, begin with `steps`."""
    found = {f"pooled rows {n}": pooling_rows_source("max", "float32", isa, n, n) for n in (0, 2)}
    found |= {f"pooled channels {d}": pooling_channels_source("max", d, isa) for d in DTYPES}
    found |= {f"steps of means of rows {d}": pooling_rows_source("average", d, isa, 2, 0) for d in DTYPES}
    every = INSTRUCTION_SETS[isa]
    found |= {
        f"steps on {'channels' if together else 'rows'} {n}": pointwise_source(
            chain, DTYPES[n % 2], every, together
        )
        for n, chain in enumerate(CHAINS[1:])
        for together in (False, True)
    }
    found |= {
        f"steps of norms {n}": instance_norm_source(chain, every) for n, chain in enumerate(((), CHAINS[2]))
    }
    found |= {
        f"steps of group norms {n} {is_plain}": group_norm_source(chain, every, is_plain)
        for n, chain in enumerate(((), CHAINS[2]))
        for is_plain in (False, True)
    }
    found |= {f"steps of layer norms {has}": layer_norm_source(every, has, has) for has in (False, True)}
    found |= {f"joined {n}": joining_source(2 << n, every) for n in range(3)}
    found |= {f"padded {n}": padding_source(2 << n, every, n == 1) for n in range(3)}
    found |= {f"linear rows {axes}": linear_rows_source(axes, "nested", every) for axes in (1, 2, 3)}
    found["linear rows of corners"] = linear_rows_source(2, "corners", every)
    found["linear pixels"] = linear_pixels_source(2, "nested", every)
    found["linear pixels of corners"] = linear_pixels_source(3, "corners", every)
    for dtype in (*DTYPES, "bfloat16"):
        for order in (SumOrder(4, 8), FOUR):
            found[f"steps of means of maps {order} {dtype}"] = mean_rows_source(dtype, every, order)
        for orders in ((SumOrder(4, 8),), (ONE, FOUR)):
            name = f"steps of means of maps of channels {orders} {dtype}"
            found[name] = mean_channels_source(dtype, every, orders)
    found |= {f"rearranged {n}": rearrangement_source(2 << n % 3, every, n) for n in (0, *SOURCES)}
    return found | {"steps of means of channels": pooling_channels_source("average", "float64", isa)}
