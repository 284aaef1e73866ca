from __future__ import annotations

from rayclusters import cluster  # noqa: F401
