"""The rows of a bundle's files: the manifest's comparison, with the class that loses most."""

from __future__ import annotations

from dataclasses import replace

from tiny_bundle import write_bundle

from edgefel.bench.experiments.int8_results import file_rows
from edgefel.runtime.manifest import read_manifest, write_manifest

PARITY = {
    "verdict": "pass",
    "reasons": [],
    "images": 20,
    "top1_agreement": 0.95,
    "agreement_interval": [0.9, 1.0],
    "logits_sqnr_db": 30.0,
    "kl_mean": 1e-3,
    "labels": {
        "accuracy": 0.8,
        "accuracy_reference": 0.85,
        "macro_f1": 0.7,
        "macro_f1_reference": 0.75,
        "classes": [
            {"label": "fear", "change": 1.0, "interval": [0.0, 2.0]},
            {"label": "anger", "change": -2.5, "interval": [-4.0, -1.0]},
        ],
    },
}


def test_a_row_of_every_file(tmp_path):
    folder = write_bundle(tmp_path / "bundle", ("fp32", "int8"))
    manifest = read_manifest(folder)
    files = tuple(replace(file, parity=PARITY) for file in manifest.files)
    write_manifest(folder, replace(manifest, files=files))
    rows = file_rows(folder)
    assert [(row["file"], row["precision"]) for row in rows] == [
        (file.name, file.precision) for file in files
    ]
    for row in rows:
        assert (row["worst_class"], row["worst_recall_change"]) == ("anger", -2.5)
        assert row["worst_recall_interval"] == [-4.0, -1.0]
        assert (row["agreement"], row["accuracy"], row["macro_f1_reference"]) == (0.95, 0.8, 0.75)
