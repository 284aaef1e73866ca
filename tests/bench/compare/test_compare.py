"""Contenders of a real checkpoint and bundle: checked, timed in turn, judged, refused."""

from __future__ import annotations

import dataclasses
import functools
import json
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data.readers.trees_fer_plus import write_disagreeing
from exported import save, tiny_model

from edgefel.bench import sessions
from edgefel.bench.compare import run
from edgefel.bench.compare.accuracy import choose, judge, notes
from edgefel.bench.compare.contenders import Contender, Subject, open_session, prepare
from edgefel.bench.compare.run import CompareOptions, check_outputs, compare, open_contenders
from edgefel.bench.results import append_results, read_results
from edgefel.bench.timer import TimingPlan
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8
from edgefel.data.open import open_dataset
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.sysfs import lacks_vnni

PLAN = TimingPlan(warmup=1, settle_seconds=0, min_runs=3, max_runs=3, seconds=0)


@pytest.fixture(scope="module")
def nano(nano_checkpoint, nano_bundle) -> Subject:
    manifest = read_manifest(nano_bundle)
    return Subject("arbex-nano", nano_checkpoint, nano_bundle, True, manifest.labels, manifest.preprocessing)


@pytest.fixture(scope="module")
def compared(nano, faces_folder):
    options = CompareOptions(
        precisions=("fp32", "int8"),
        backends=("pytorch", "onnxruntime", "openvino"),
        batches=(1, 2),
        plan=PLAN,
        data=faces_folder,
        images=20,
        memory=False,
    )
    pytest.importorskip("openvino")
    return compare([nano], options)


def test_every_contender_has_a_row_for_every_batch(compared):
    subjects = [row.subject for row in compared.rows]
    contenders = [
        ("fp32", "pytorch"),
        ("fp32", "onnxruntime"),
        ("int8", "onnxruntime"),
        ("fp32", "openvino"),
        ("int8+fp16", "openvino"),
    ]
    if lacks_vnni():
        contenders.remove(("int8+fp16", "openvino"))
        assert "without VNNI" in compared.skipped["int8+fp16 openvino"]
    else:
        assert compared.skipped == {}
    assert [(s["precision"], s["backend"], s["batch"]) for s in subjects] == [
        (precision, backend, batch) for batch in (1, 2) for precision, backend in contenders
    ]
    assert {row.metrics["latency_ms"]["runs"] for row in compared.rows} == {3}


def test_ratios_refer_to_eager_pytorch_of_the_same_run(compared):
    for row in compared.rows:
        assert row.metrics["ratio"]["to"] == "arbex-nano fp32 pytorch"
        eager = next(
            other
            for other in compared.rows
            if other.subject["backend"] == "pytorch" and other.subject["batch"] == row.subject["batch"]
        )
        own = row.metrics["latency_ms"]["p50"]
        assert row.metrics["ratio"]["value"] == pytest.approx(eager.metrics["latency_ms"]["p50"] / own)
        assert row.metrics["images_per_s"] == pytest.approx(1e3 * row.subject["batch"] / own)


def test_accuracy_is_the_sessions_own(compared, nano, faces_folder):
    matched, chosen = choose(faces_folder, nano.labels, 20)
    dataset = matched.dataset
    with Session.open(nano.bundle, "int8", "onnxruntime") as session:
        labels = session([dataset.load(index) for index in chosen]).probabilities.argmax(axis=1)
    targets = np.asarray([dataset.samples[index].label for index in chosen])
    row = next(
        row
        for row in compared.rows
        if row.subject["precision"] == "int8" and row.subject["backend"] == "onnxruntime"
    )
    assert row.metrics["images"] == len(chosen) <= 20
    assert row.metrics["accuracy"] == pytest.approx(np.mean(labels == targets))
    own = targets == 1
    assert row.metrics["recall"][dataset.labels[1]] == pytest.approx(np.mean(labels[own] == 1))
    eager = next(row for row in compared.rows if row.subject["backend"] == "pytorch")
    assert eager.metrics["agreement"] == 1.0
    assert {dataset.samples[index].split for index in chosen} <= {"val", "test"}


def test_rows_survive_the_file(compared, tmp_path):
    append_results(tmp_path / "rows.jsonl", compared.rows)
    loaded = read_results(tmp_path / "rows.jsonl")
    assert loaded.problems == ()
    assert [row.to_dict() for row in loaded.rows] == [
        json.loads(json.dumps(row.to_dict())) for row in compared.rows
    ]


def test_a_contender_that_computes_something_else_is_not_timed(nano):
    options = CompareOptions(("fp32",), ("pytorch", "onnxruntime"))
    with open_contenders([nano], options, threads=1) as (right, _):
        images = {"arbex-nano": nano.preprocessing.batch(sessions.faces(2))}
        found = check_outputs(right, images)
        assert found["arbex-nano fp32 onnxruntime"] > 100
        wrong = dataclasses.replace(right[1], logits=lambda batch: right[1].logits(batch) + 0.05)
        with pytest.raises(EdgefelError, match="arbex-nano fp32 onnxruntime: .* nothing was timed"):
            check_outputs([right[0], wrong], images)
        nothing = dataclasses.replace(right[1], logits=lambda batch: right[1].logits(batch) * np.nan)
        with pytest.raises(EdgefelError, match="nothing was timed"):
            check_outputs([right[0], nothing], images)


def test_a_bundle_alone_is_compared_without_pytorch(nano_bundle, tmp_path):
    subject = prepare(str(nano_bundle), tmp_path, ("fp32",))
    assert (subject.checkpoint, subject.trained) == (None, True)
    found = compare([subject], CompareOptions(precisions=("fp32",), plan=PLAN, memory=False))
    assert "pytorch" in found.skipped
    assert "holds no PyTorch model" in found.skipped["pytorch"]
    assert found.rows[0].metrics["ratio"]["to"] == "arbex-nano fp32 onnxruntime"
    with pytest.raises(EdgefelError, match="holds no PyTorch model"):
        compare([subject], CompareOptions(backends=("pytorch",), plan=PLAN, memory=False))


def test_peak_memory_is_the_fresh_processs_own(nano):
    ballast = np.ones(200 << 20, np.uint8)  # of this process, and of no concern to the other
    with ExitStack() as opened:
        assert 20 < open_session(nano, "fp32", "onnxruntime", 1, opened).peak_memory_mb(1) < 200
    assert ballast.sum() == 200 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backends": ("magic",)},
            "backend 'magic' is not known; choose from: pytorch, torch.compile, tensorrt",
        ),
        (
            {"baseline": "nobody", "backends": ("onnxruntime",)},
            "baseline 'nobody' does not take part; choose one of",
        ),
        ({"precisions": ("fp16",), "backends": ("onnxruntime",)}, "holds no file for onnxruntime of fp16"),
    ],
)
def test_what_cannot_be_compared(nano, options, message):
    with pytest.raises(EdgefelError, match=message):
        compare([nano], CompareOptions(**{"precisions": ("fp32",), "plan": PLAN, "memory": False, **options}))


@pytest.mark.parametrize("options", [{"batches": (0,)}, {"threads": ()}, {"images": 0}])
def test_impossible_options(options):
    with pytest.raises(EdgefelError, match="give"):
        CompareOptions(**options)


def test_no_subject_and_no_such_model(tmp_path):
    with pytest.raises(EdgefelError, match="nothing to compare"):
        compare([], CompareOptions())
    with pytest.raises(EdgefelError, match="known models: arbex, poster-v2"):
        prepare("nothing", tmp_path, ("fp32",))


class Answers:
    """A contender whose probabilities are given."""

    name = "given"
    backend = "onnxruntime"

    def __init__(self, labels, probabilities):
        self.subject = SimpleNamespace(name="given", labels=labels)
        self._rows = iter(probabilities)

    def probabilities(self, batch):
        return np.stack([next(self._rows) for _ in batch])


def test_accuracy_is_of_the_classes_that_model_and_data_share(nano, faces_folder):
    labels = ("contempt", *EXPRESSIONS_7[::-1])
    matched, chosen = choose(faces_folder, labels, 14)
    true = [matched.dataset.samples[index].label for index in chosen]
    # contempt is the most probable each time, and the true class comes next for all but the first image
    said = np.full((len(chosen), 8), 0.01, np.float32)
    said[:, 0] = 0.6
    for row, label in enumerate(true):
        said[row, 7 - label if row else 7 - (label + 1) % 7] = 0.3
    found = judge([Answers(labels, said)], matched, chosen, nano.preprocessing)["given"]
    assert found["accuracy"] == pytest.approx(1 - 1 / len(chosen))
    assert set(found["recall"]) == set(EXPRESSIONS_7)
    assert "judged by its probabilities of the other 7 classes" in matched.notes()[0]


def test_other_classes_are_refused(nano, faces_folder):
    dataset = open_dataset(faces_folder)
    with pytest.raises(EdgefelError, match="share fewer than two classes"):
        choose(faces_folder, ("calm", "rage"), 5)
    with pytest.raises(EdgefelError, match="layout 'imagenet' is not known"):
        choose(faces_folder, dataset.labels, 5, layout="imagenet")
    assert len(choose(faces_folder, dataset.labels, 5, layout="folder")[1]) == 5


def test_the_baseline_is_poster_v2_where_it_takes_part(nano):
    def contender(name: str, backend: str) -> Contender:
        subject = dataclasses.replace(nano, name=name)
        return Contender(subject, "fp32", backend, 0, lambda batch: batch, None, lambda batch: 0.0)

    arbex, poster = contender("arbex", "pytorch"), contender("poster-v2", "pytorch")
    assert run._baseline([arbex, poster], None) is poster
    assert run._baseline([contender("arbex", "openvino"), arbex], None) is arbex


def test_a_model_is_compared_in_pytorch_alone(tmp_path):
    subject = prepare("arbex-nano", tmp_path, ("fp32",), export=False)
    assert subject.bundle is None
    found = compare([subject], CompareOptions(backends=("pytorch", "onnxruntime"), plan=PLAN))
    (row,) = found.rows
    assert row.subject["backend"] == "pytorch"
    # more than ONNX Runtime's
    assert row.metrics["peak_memory_mb"] > 200


def test_a_compiled_model_is_compared(tmp_path, monkeypatch):
    """Captured as a graph, and not translated to C++, which takes minutes here."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    subject = prepare(str(save(tmp_path / "tiny", tiny_model())), tmp_path, (), export=False)
    backends = ("pytorch", "torch.compile")
    _, compiled = compare([subject], CompareOptions(backends=backends, plan=PLAN, memory=False)).rows
    assert compiled.subject["backend"] == "torch.compile"
    assert compiled.metrics["sqnr_db"] > 60


@pytest.mark.filterwarnings("ignore::edgefel.errors.EdgefelWarning")
def test_accuracy_on_fer_plus_names_its_file_of_votes(tmp_path):
    write_disagreeing(tmp_path)
    matched, chosen = choose(tmp_path, EXPRESSIONS_8, 8, layout="fer-plus:label.csv")
    assert len(chosen) > 0
    assert notes(matched)[-1] == "accuracy by the votes of label.csv"
