"""Streams are counted."""

from __future__ import annotations

import pytest

from edgefel.serve.problems import Problem
from edgefel.serve.slot import Slot


def test_a_stream_counts_while_it_lasts_however_it_ends(make_client):
    service = make_client(clients=1).app.state.service
    for error in (None, RuntimeError()):
        try:
            with service.stream(Slot()):
                assert service.streams == 1
                with pytest.raises(Problem, match="1 streams are open"), service.stream(Slot()):
                    pass
                if error is not None:
                    raise error
        except RuntimeError:
            pass
        assert (service.streams, service.slots) == (0, set())
