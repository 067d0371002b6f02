"""Which layers of a model enlarge or reduce: as they stand in it, or as they run on an input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from outstride.artifacts.phases import SHUFFLED_AXES
from outstride.errors import ShapeError
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution, pooling
from outstride.models.operators.describing import layer_of

KNOWN = (
    *(*convolution.LAYERS, *pooling.LAYERS),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.Upsample),
)


@dataclass(frozen=True, eq=False)
class Part:
    """A layer that changes the resolution; for a function that is called, the layer that it stands for.

    ``conv`` is the convolution that feeds a PixelShuffle, where that was seen; ``output`` what was computed
    first, where the model was run; ``grows`` is how often as large as its input that is, per axis.
    """

    name: str
    layer: nn.Module
    conv: nn.Module | None = None
    output: Tensor | None = None
    grows: tuple[float, ...] | None = None

    @property
    def enlarges(self) -> bool:
        """Whether its output is the larger side."""
        return isinstance(self.layer, (*convolution.TRANSPOSED, nn.PixelShuffle, nn.Upsample))

    @property
    def period(self) -> tuple[int, ...] | None:
        """After how many elements of the larger side its phases begin anew; None where they never do."""
        layer = self.layer
        if isinstance(layer, nn.PixelShuffle):
            return (layer.upscale_factor,) * SHUFFLED_AXES
        if not isinstance(layer, nn.Upsample):
            return ConvSpec.of(layer).stride
        if self.grows is None or layer.align_corners or any(g != int(g) or g < 1 for g in self.grows):
            return None
        return tuple(map(int, self.grows))


def standing(model: nn.Module) -> list[Part]:
    """The layers in the order in which they stand; a PixelShuffle goes with a convolution beside it."""
    before = {
        after: conv
        for part in model.modules()
        if isinstance(part, nn.Sequential)
        for conv, after in pairwise(part)
        if isinstance(after, nn.PixelShuffle) and isinstance(conv, nn.Conv2d)
    }
    named = ((name or type(part).__name__, part) for name, part in model.named_modules())
    found = [Part(name, part, before.get(part)) for name, part in named if _changes_resolution(part)]
    fed = [part.conv for part in found]
    return [part for part in found if part.layer not in fed]


def running(model: nn.Module, input: Tensor) -> tuple[Tensor | None, list[Part]]:
    """What the model returns, and its layers and functions in the order in which they run."""
    watch = _Watch(model)
    was_training = model.training
    hooks = [part.register_forward_pre_hook(watch.enter) for part in model.modules()]
    hooks += [part.register_forward_hook(watch.leave) for part in model.modules()]
    try:
        with torch.no_grad(), watch:
            result = model.eval()(input)
    except Exception as error:
        raise ShapeError(
            f"'input' must be one that the model takes: got shape {tuple(input.shape)}; "
            f"it says: {str(error).splitlines()[0]}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    fed = {part.conv for part in watch.found.values()}
    return _first(result), [part for part in watch.found.values() if part.layer not in fed]


class _Watch(TorchFunctionMode):
    """Notes layers that run, and functions that are called outside of these."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: dict[object, Part] = {}
        self._names = {part: name for name, part in model.named_modules()}
        self._inside: list[nn.Module] = []
        self._makers: dict[int, nn.Module] = {}
        self._alive: list[Tensor] = []  # an id stands for a tensor only while that lives

    def enter(self, part: nn.Module, inputs: Any) -> None:
        del inputs
        self._inside.append(part)

    def leave(self, part: nn.Module, inputs: Any, out: Any) -> None:
        self._inside.pop()
        if _is_torchs(part):
            self._note(part, self._names[part] or type(part).__name__, part, inputs, out)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        inner = self._inside[-1] if self._inside else None
        layer = None if inner is not None and _is_torchs(inner) else layer_of(func, args, kwargs or {})
        if isinstance(layer, KNOWN):
            where = self._names[inner] if inner is not None else ""
            name = f"{where}{'.' if where else ''}{func.__name__}()"
            weight = getattr(layer, "weight", None)
            which = repr(layer) if weight is None else id(weight)
            self._note((name, which), name, layer, args or tuple((kwargs or {}).values()), out)
        return out

    def _note(self, key: object, name: str, layer: nn.Module, inputs: Any, out: Any) -> None:
        if not inputs or not isinstance(out, Tensor) or not isinstance(inputs[0], Tensor):
            return
        if isinstance(layer, convolution.CONVOLUTIONS):
            self._makers[id(out)] = layer
            self._alive.append(out)
        sizes = zip(inputs[0].shape[2:], out.shape[2:], strict=False)
        grows = tuple(after / before for before, after in sizes)
        if _changes_resolution(layer) and not (isinstance(layer, nn.Upsample) and max(grows) <= 1):
            conv = self._makers.get(id(inputs[0])) if isinstance(layer, nn.PixelShuffle) else None
            self.found.setdefault(key, Part(name, layer, conv, out.detach(), grows))


def _is_torchs(part: nn.Module) -> bool:
    """Whether a layer does what its class says, and not what somebody derived from it."""
    return isinstance(part, KNOWN) and type(part).__module__.startswith(("torch.nn.", "outstride."))


def _changes_resolution(part: nn.Module) -> bool:
    if isinstance(part, (*convolution.LAYERS, *pooling.LAYERS)):
        return max(ConvSpec.of(part).stride) > 1
    return isinstance(part, (nn.PixelShuffle, nn.Upsample))


def _first(result: Any) -> Tensor | None:
    """The first tensor that a model returns, in a dictionary or tuple too."""
    while isinstance(result, (dict, tuple, list)) and result:
        result = next(iter(result.values() if isinstance(result, dict) else result))
    return result if isinstance(result, Tensor) else None
