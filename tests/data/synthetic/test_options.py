from __future__ import annotations

from typing import Any

import pytest

from edgefel.data.synthetic import FaceOptions
from edgefel.errors import EdgefelError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 6}, "7 or 8"),
        ({"count": 0}, "count=0"),
        ({"count": 2.5}, "count=2.5"),
        ({"size": 16}, "size=16"),
        ({"subjects": 3}, "subjects=3"),
        ({"seed": -1}, "seed=-1"),
        ({"long_tail": 0.5}, "long_tail=0.5"),
        ({"long_tail": float("nan")}, "long_tail=nan"),
        ({"label_noise": 1.5}, "label_noise=1.5"),
        ({"group_bias": -0.1}, "group_bias=-0.1"),
        ({"blend": "much"}, "blend='much'"),
        ({"bias_attribute": "hat"}, "choose one of glasses, skin, hair"),
        ({"intensity": (0.0, 1.0)}, "intensity=0.0"),
        ({"intensity": (0.9, 0.2)}, "must not exceed"),
        ({"intensity": (0.5,)}, "two numbers"),
        ({"pose": 9.0}, "pose=9.0"),
    ],
)
def test_bad_options_say_what_is_allowed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        FaceOptions(**settings)


def test_labels_follow_the_class_count() -> None:
    assert "contempt" not in FaceOptions(classes=7).labels
    assert FaceOptions(classes=8).labels[-1] == "contempt"
