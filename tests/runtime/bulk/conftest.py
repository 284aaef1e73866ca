from __future__ import annotations

import pytest
from runtime.bulk.sets import make_folder, network


@pytest.fixture
def images(tmp_path):
    return make_folder(tmp_path / "images")


@pytest.fixture
def net(tmp_path):
    return network(tmp_path)
