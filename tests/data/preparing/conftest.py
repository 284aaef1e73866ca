from __future__ import annotations

import pytest
from data.preparing.photos import make_photos, run, tree


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def once(photos, tmp_path_factory):
    """What an uninterrupted run gives."""
    output = tmp_path_factory.mktemp("out") / "faces"
    run(photos, output, workers=1)
    return tree(output)
