"""Architectures of other libraries, with random weights, or a skip where a library is not installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn


def library(name: str) -> Any:
    """A library of models, or a skip where it is not installed."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        # A torchvision that was built for another torch lacks its compiled operators, of which the models
        # here use none: declared without a body they let it be imported.
        _DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for operator in ("nms", "qnms"):
            _DECLARED[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
    return pytest.importorskip(name)


_DECLARED: list[torch.library.Library] = []


def timm(name: str, **options: Any) -> nn.Module:
    model: nn.Module = library("timm").create_model(name, pretrained=False, **options)
    return model


def smp(name: str, **options: Any) -> nn.Module:
    module = library("segmentation_models_pytorch")
    options = {"encoder_name": "resnet18", "encoder_weights": None, **options}
    model: nn.Module = getattr(module, name)(**options)
    return model


def transformer(name: str, config: str, **options: Any) -> nn.Module:
    module = library("transformers")
    model: nn.Module = getattr(module, name)(getattr(module, config)(**options))
    return model
