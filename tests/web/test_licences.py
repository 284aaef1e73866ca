from __future__ import annotations

from edgefel.web.licences import licences


def test_every_part_has_its_licence():
    text = licences(published_detector=True)
    assert text.count("Permission is hereby granted, free of charge") == 2
    assert "Copyright (c) Microsoft Corporation" in text
    assert "Copyright (c) 2020 Shiqi Yu" in text
    assert "Apache License" in text


def test_of_another_detector_nothing_is_claimed():
    text = licences(published_detector=False)
    assert "Shiqi Yu" not in text
    assert "given by whoever exported this folder" in text
