"""edgefel: facial-expression transformers from training to an edge device.

Importing this package imports neither torch nor any other optional dependency; see
``edgefel.runtime`` for the part that runs on a device.
"""

__version__ = "0.1.0"
