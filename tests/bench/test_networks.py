"""Networks of the benches: always the same weights, and nothing changes around them."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from small_graphs import make_model, node

from edgefel.bench.networks import onnxruntime_session, random_network


def test_a_random_network_is_always_the_same_and_leaves_the_random_state():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    plain, noisy = random_network("arbex-nano", passes=1), random_network("arbex-nano", passes=0, noise=0.1)
    assert torch.equal(torch.get_rng_state(), state)
    again = random_network("arbex-nano", passes=1)
    assert not plain.training
    for name, value in plain.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    counts = {
        name: int(value) for name, value in plain.named_buffers() if name.endswith("num_batches_tracked")
    }
    assert set(counts.values()) == {1}
    assert all((parameter != 0).all() and (parameter != 1).all() for parameter in noisy.parameters())


def test_a_session_runs_a_model_or_its_bytes_on_so_many_threads():
    model = make_model([node("Add", "x one", "y")], {"x": ["N", 2]}, {"y": ["N", 2]}, {"one": np.float32(1)})
    assert isinstance(model, onnx.ModelProto)
    for source in (model, model.SerializeToString()):
        session = onnxruntime_session(source, threads=2)
        assert session.get_session_options().intra_op_num_threads == 2
        (found,) = session.run(None, {"x": np.zeros((3, 2), np.float32)})
        assert (found == 1).all()
