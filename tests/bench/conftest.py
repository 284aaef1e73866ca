"""Fixtures of the benches' tests."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def nano_weights(nano_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new arbex-nano gets the weights of `nano_checkpoint`, whose graph other tests need too: it is traced once."""
    from edgefel.models.checkpoint import load_checkpoint

    weights = load_checkpoint(nano_checkpoint).model.state_dict()

    def replace(place: str) -> None:
        make = pkgutil.resolve_name(place)

        def made(*arguments: Any, **settings: Any) -> Any:
            network = make(*arguments, **settings)
            network.load_state_dict(weights)
            return network

        monkeypatch.setattr(place, made)

    replace("edgefel.bench.networks.random_network")
    replace("edgefel.bench.compare.contenders.random_network")
