"""The networks in PyTorch. Names, configurations and sizes are known without importing it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgefel.models.config import EncoderConfig, ModelConfig, ReliabilityConfig
from edgefel.models.registry import build_model, list_models, model_config

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel
    from edgefel.models.reliability import Prediction, ReliabilityHead

__all__ = [
    "EncoderConfig",
    "FacialExpressionModel",
    "ModelConfig",
    "Prediction",
    "ReliabilityConfig",
    "ReliabilityHead",
    "build_model",
    "list_models",
    "model_config",
]

_LAZY = {"FacialExpressionModel": "network", "Prediction": "reliability", "ReliabilityHead": "reliability"}


def __getattr__(name: str) -> Any:
    # imported on demand: `edgefel models` must not wait for PyTorch
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
