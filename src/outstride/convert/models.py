"""Rewrite the layers of a whole model in a copy of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from outstride.errors import ArgumentError
from outstride.models.copying import duplicated


def rewritten(
    model: nn.Module,
    is_meant: Callable[[nn.Module], bool],
    rewrite: Callable[[nn.Module], nn.Module],
    what: str,
) -> nn.Module:
    """Return the rewritten layer, or a copy of a model with each layer that is meant rewritten in its place.

    A layer that stands in several places stays one layer. Hooks of a layer that is replaced go with it.
    """
    if is_meant(model):
        return rewrite(model)
    made: dict[nn.Module, nn.Module] = {}
    places = [(name, part) for name, part in model.named_modules(remove_duplicate=False) if is_meant(part)]
    if not places:
        raise ArgumentError(
            f"'layer' must be or hold {what}: got {type(model).__name__}, which has none; legal: {what}"
        )
    twin = duplicated(model)
    done: set[str] = set()
    for name, part in places:
        parent, _, child = name.rpartition(".")
        if any(f"{name}.".startswith(f"{outer}.") for outer in done):
            continue  # its surroundings were rewritten as a whole
        done.add(name)
        if part not in made:
            made[part] = rewrite(part)
        setattr(twin.get_submodule(parent), child, made[part])
    return twin


def rewritten_if_any(
    model: nn.Module, is_meant: Callable[[nn.Module], bool], rewrite: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """The same for a part of a model, of which a plain copy is returned where there is nothing to rewrite."""
    if not any(is_meant(part) for part in model.modules()):
        return duplicated(model)
    return rewritten(model, is_meant, rewrite, "")
