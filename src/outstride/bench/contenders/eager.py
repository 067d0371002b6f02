"""torch's own layers and outstride's, called as torch programs call them, in both memory layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from outstride.bench.contenders import FROZEN, Form
from outstride.bench.work import Work, tensors
from outstride.errors import UnsupportedError

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """One form, the module on its input or a training step; with frozen weights one for each layout."""
    del threads
    if name == FROZEN:
        yield from _frozen(work)
        return
    module, x = _module(name, work)
    chosen = None
    if name == "outstride" and work.case is not None and not work.training:
        chosen = _plan(work.module, x)
    run, read = calls(module, x, work)
    yield Form("eager", run, read, chosen, direct(work, name) if name.startswith("outstride") else None)


def _frozen(work: Work) -> Iterator[Form]:
    yield Form("NCHW", *_inference(*_module(FROZEN, work)), direct=direct(work))
    if work.input.dim() in CHANNELS_LAST:
        name = "outstride_channels_last"
        yield Form("NHWC", *_inference(*_module(f"{FROZEN}_channels_last", work)), direct=direct(work, name))


def direct(work: Work, name: str = "outstride") -> Callable[[], tuple[Tensor, ...]] | None:
    """What gives the same results by the direct chain, where this package takes short algorithms."""
    return partial(_directly, name, work) if work.takes_short() else None


def _directly(name: str, work: Work) -> tuple[Tensor, ...]:
    run, read = calls(*_module(name, work, "direct"), work)
    return read(run())


def calls(
    module: nn.Module, x: Tensor, work: Work
) -> tuple[Callable[[], Any], Callable[[Any], tuple[Tensor, ...]]]:
    """A call of the module, or a training step, and how its results are read."""
    return _step(module, x, work) if work.training else _inference(module, x)


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """The module itself: torch takes inputs of any length."""
    del threads
    if name.endswith("channels_last"):
        raise UnsupportedError("changing lengths are timed in contiguous memory")
    module, _ = _module(name, work)
    return torch.inference_mode()(module)


def _module(name: str, work: Work, algorithm: str = "auto") -> tuple[nn.Module, Tensor]:
    module, x = work.module, work.input
    frozen = name.startswith(FROZEN)
    if frozen:  # the promise is about memory, which other forms have put in another layout or look at
        module = deepcopy(module)
    if name.endswith("channels_last"):
        if x.dim() not in CHANNELS_LAST:
            raise UnsupportedError(f"torch has no channels_last for inputs of {x.dim()} axes")
        layout = CHANNELS_LAST[x.dim()]
        module, x = in_layout(module, layout), x.contiguous(memory_format=layout)
    if name.startswith("outstride"):
        from outstride import accelerate

        if work.is_program:
            raise UnsupportedError(
                "accelerate serves layers, and a saved program has none: it calls operators"
            )
        module = accelerate(module, algorithm=algorithm, frozen=frozen)
    return module, x


def in_layout(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The module with its weights in this memory layout (torch's own annotation knows only tensors)."""
    return cast(nn.Module, cast(Any, module).to(memory_format=layout))


def _plan(layer: nn.Module, x: Tensor) -> dict[str, Any] | None:
    """The register tile that the engine takes, and the share of its lanes that the edges waste."""
    from outstride.planning import plan, useful_share

    found = plan(layer, tuple(x.shape))
    if found.detail is None:
        return None
    lost = 1 - useful_share(found.detail)
    return {"tile": found.detail.tile.name, "lanes_lost": lost, "algorithm": found.algorithm}


def _inference(module: nn.Module, x: Tensor) -> tuple[Callable[[], Any], Callable[[Any], tuple[Tensor, ...]]]:
    return partial(torch.inference_mode()(module), x), tensors


def _step(
    module: nn.Module, x: Tensor, work: Work
) -> tuple[Callable[[], Tensor], Callable[[Tensor], tuple[Tensor, ...]]]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.no_grad():
        like = module(x)
    grad_output = torch.empty_like(like).copy_(work.grad_output(like.shape))

    def step() -> Tensor:
        module.zero_grad(set_to_none=True)
        x.grad = None
        output = cast(Tensor, module(x))
        output.backward(grad_output)
        return output.detach()

    return step, lambda output: work.gradients(output, x, module)
