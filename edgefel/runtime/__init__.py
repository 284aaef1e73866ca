"""Torch-free runtime for exported bundles.

from edgefel.runtime import Session

with Session.open("bundle") as session:
    predictions = session(crops)
"""

from edgefel.runtime.session import Predictions, Session

__all__ = ["Predictions", "Session"]
