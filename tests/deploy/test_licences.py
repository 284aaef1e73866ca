"""The list of what edgefel runs with, and under which licences."""

from __future__ import annotations

from edgefel.deploy.licences import third_party


def test_the_list_of_licences_names_every_package_that_is_installed_with_edgefel():
    text = third_party()
    for name in ("numpy", "opencv-python-headless", "onnxruntime", "click", "rich", "prometheus-client"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert len(line.split(": ")[1]) > 2
    assert "\npygments " in text  # what rich needs
    assert "torch" not in text
    assert "FFmpeg (LGPL-2.1)" in text
