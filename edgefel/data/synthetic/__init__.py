"""Synthetic faces with known expressions: a renderer driven by FACS action units.

`SyntheticFaces(FaceOptions(...)).sample(index)` gives an image and what it shows.
"""

from edgefel.data.synthetic.faces import FacePlan, SyntheticFace, SyntheticFaces, class_shares
from edgefel.data.synthetic.options import FaceOptions

__all__ = ["FaceOptions", "FacePlan", "SyntheticFace", "SyntheticFaces", "class_shares"]
