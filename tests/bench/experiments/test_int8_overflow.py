"""INT8 by sums that hold and by others, on few images."""

from __future__ import annotations

import json
from pathlib import Path

from edgefel.bench.experiments.int8_overflow import main
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.runtime.telemetry.sysfs import lacks_vnni

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"


def test_a_small_comparison(tmp_path, capsys):
    write_faces(tmp_path / "faces", FaceOptions(count=42, size=64, seed=3))
    assert main([str(BUNDLE), "--data", str(tmp_path / "faces"), "--compare", "14", "--runs", "2"]) == 0
    row = json.loads(capsys.readouterr().out)
    by_name = {line["network"]: line for line in row["rows"]}
    exact = by_name["int8 by onnxruntime"]["sqnr_db"]
    fast = by_name["int8 by onnxruntime, default options"]["sqnr_db"]
    assert exact > 20
    assert row["machine"]["lacks_vnni"] == lacks_vnni()
    assert (fast < exact - 3) == bool(lacks_vnni())
    assert main([str(BUNDLE), "--data", str(tmp_path / "nowhere")]) == 2
