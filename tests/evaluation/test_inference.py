from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.models.checkpoint import load_checkpoint


def test_batches_give_the_outputs_of_the_model_and_features_only_where_asked_for(nano_checkpoint, faces):
    loaded, data = load_checkpoint(nano_checkpoint), open_dataset(faces, "test").subset([5, 3, 7])
    model, preprocessing = loaded.model.train(), Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(data, preprocessing, cache_mb=0)
    done = []
    outputs = run_model(model, source.readable(range(3), 2), preprocessing, 7, advance=done.append)
    assert model.training
    assert sum(done) == 3
    assert outputs.indices.tolist() == [0, 1, 2]
    assert outputs.embeddings is outputs.logits is None
    images = np.stack([data.load(index) for index in range(3)])
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(preprocessing.batch(list(images))))
    assert outputs.primary == pytest.approx(expected.primary.double().numpy(), abs=1e-6)
    assert outputs.corrected == pytest.approx(expected.probabilities.double().numpy(), abs=1e-6)
    kept = run_model(model, source.readable(range(3), 2), preprocessing, 7, features=True)
    assert kept.embeddings == pytest.approx(expected.embedding.numpy(), abs=1e-5)
    assert kept.logits == pytest.approx(expected.logits.numpy(), abs=1e-5)
