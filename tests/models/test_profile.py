"""What `edgefel models` says of sizes is what the networks have."""

from __future__ import annotations

import pytest

from edgefel.models.profile import known_profile, profile
from edgefel.models.registry import ADDITIONS, MODELS, model_config


@pytest.mark.parametrize("base", MODELS)
def test_the_table_is_what_is_counted(base):
    assert set(ADDITIONS) == {"reliability", "resizer"}
    for more in ("", "+reliability", "+resizer", "+reliability+resizer"):
        assert known_profile(base + more) == profile(model_config(base + more)), base + more
    assert known_profile(f"{base}+resizer+reliability") == known_profile(f"{base}+reliability+resizer")
