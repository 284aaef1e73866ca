"""Torch-free runtime for exported bundles.

from edgefel.runtime import Session

with Session.open("bundle") as session:
    predictions = session(crops)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefel.runtime.session import Predictions, Session

__all__ = ["Predictions", "Session"]


def __getattr__(name: str) -> Any:
    # when it is asked for: `edgefel doctor` must be able to say that NumPy or OpenCV is missing
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgefel.runtime import session

    return getattr(session, name)
