"""The reference model and its relatives in PyTorch."""

from edgefel.models.config import EncoderConfig, ModelConfig, ReliabilityConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.models.outputs import OUTPUT_NAMES, Prediction
from edgefel.models.registry import build_model, list_models, model_config
from edgefel.models.reliability import ReliabilityHead

__all__ = [
    "OUTPUT_NAMES",
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
