from __future__ import annotations

from typing import Any

import pytest

from edgefel.data.synthetic.options import FaceOptions, VideoOptions
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
        ({"blend": True}, "blend=True"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": -1}, "faces=-1"),
        ({"faces": True}, "faces=True"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"fps": 0.5}, "fps=0.5"),
        ({"size": (641, 480)}, "must be even"),
        ({"size": (640,)}, "a width and a height"),
        ({"size": (32, 32)}, "size=32"),
        ({"labels": ("neutral", "joy")}, "unknown expression joy"),
        ({"labels": ("fear", "fear")}, "one expression alone"),
        ({"changes": 3, "seconds": 6.0}, "more seconds or fewer changes"),
        ({"faces": 40, "size": (320, 240)}, "smaller than 32 pixels"),
    ],
)
def test_options_that_make_no_video(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        VideoOptions(**change)


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (2, 2)), (6, (3, 2)), (40, (7, 6))])
def test_the_grid_with_the_largest_cells(count: int, grid: tuple[int, int]) -> None:
    assert VideoOptions(faces=count).cells == grid
