"""The networks in PyTorch. Names, configurations and sizes are known without importing it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefel.models.config import EncoderConfig, ModelConfig, ReliabilityConfig
    from edgefel.models.network import FacialExpressionModel
    from edgefel.models.registry import build_model, list_models, model_config
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

_MODULES = {
    "config": ("EncoderConfig", "ModelConfig", "ReliabilityConfig"),
    "network": ("FacialExpressionModel",),
    "registry": ("build_model", "list_models", "model_config"),
    "reliability": ("Prediction", "ReliabilityHead"),
}


def __getattr__(name: str) -> Any:
    # imported on demand: `edgefel models` must not wait for PyTorch
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
