"""The comparison of symmetric and asymmetric activations, on few images."""

from __future__ import annotations

import json
from pathlib import Path

from edgefel.bench.experiments.asymmetric_activations import main
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"


def test_a_small_comparison(tmp_path, capsys):
    write_faces(tmp_path / "faces", FaceOptions(count=42, size=64, seed=3))
    options = ["--methods", "minmax", "--calibrate", "14", "--compare", "14", "--runs", "2"]
    assert main([str(BUNDLE), "--data", str(tmp_path / "faces"), *options]) == 0
    row = json.loads(capsys.readouterr().out)
    symmetric, asymmetric = row["rows"]
    assert (symmetric["activations"], asymmetric["activations"]) == ("symmetric", "asymmetric")
    assert asymmetric["sqnr_db"] > symmetric["sqnr_db"] > 10
    assert {line["file"]: line["runs"] for line in row["speed"]} == {
        "fp32": 2,
        "symmetric": 2,
        "asymmetric": 2,
    }
    assert main([str(BUNDLE), "--data", str(tmp_path / "nowhere")]) == 2
