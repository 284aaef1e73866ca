"""Published checkpoints the whole way: `edgefel import`, `edgefel export --fp32`, ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from published_weights import golden, golden_input, state_dict

from edgefel.cli.main import main
from edgefel.export.bundle import ExportOptions, export_bundle

pytestmark = pytest.mark.slow


def imported(folder: Path, name: str, layout: str) -> Path:
    files = []
    for part, tensors in state_dict(name).items():
        files.append(folder / f"{part or layout}.pth")
        torch.save(tensors["anchors"] if part == "anchors" else {"state_dict": tensors}, files[-1])
    arguments = ["import", *files, "--layout", layout, "-o", folder / "checkpoint"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return folder / "checkpoint"


@pytest.mark.parametrize(
    ("name", "layout", "side"),
    [("poster_v2_7cls", "poster-v2", 224), ("arbex", "arbex", 224), ("apvit", "apvit", 112)],
)
def test_the_exported_file_matches_the_published_network(name, layout, side, tmp_path):
    checkpoint = imported(tmp_path, name, layout)
    export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(parity_images=1))
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.fp32.onnx")
    images = golden_input(side=side).numpy()
    values = session.run(None, {"image": images})
    outputs = dict(zip((output.name for output in session.get_outputs()), values, strict=True))
    expected = golden(name.removesuffix("_7cls"))
    for output in ("logits", "embedding"):
        np.testing.assert_allclose(outputs[output], expected[output], atol=1e-4, rtol=0, err_msg=output)
    for row in range(2):  # a prediction does not depend on its batch-mates
        alone = session.run(None, {"image": images[row : row + 1]})
        for together, single in zip(values, alone, strict=True):
            np.testing.assert_allclose(together[row : row + 1], single, atol=1e-6, rtol=0)
