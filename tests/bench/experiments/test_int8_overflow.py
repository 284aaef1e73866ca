"""INT8 by sums that hold and by others, on few images."""

from __future__ import annotations

import json

from edgefel.bench.experiments.int8_overflow import main
from edgefel.runtime.telemetry.sysfs import lacks_vnni


def test_a_small_comparison(nano_bundle, faces_folder, tmp_path, capsys):
    assert main([str(nano_bundle), "--data", str(faces_folder), "--compare", "14", "--runs", "2"]) == 0
    row = json.loads(capsys.readouterr().out)
    by_name = {line["network"]: line for line in row["rows"]}
    exact = by_name["int8 by onnxruntime"]["sqnr_db"]
    fast = by_name["int8 by onnxruntime, default options"]["sqnr_db"]
    assert exact > 20
    assert row["machine"]["lacks_vnni"] == lacks_vnni()
    assert (fast < exact - 3) == bool(lacks_vnni())
    assert main([str(nano_bundle), "--data", str(tmp_path / "nowhere")]) == 2
