"""Cached scales are used again only where everything that decides them is the same."""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib import cache
from edgefel.calib.cache import cached_scales
from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.reader import CalibrationReader
from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError

PREPROCESSING = default_preprocessing(112)
TENSORS = ("image", "conv")


def small_graph(seed: int = 0) -> onnx.ModelProto:
    """conv = Conv(image), [N, 4, 3, 3] from [N, 3, 112, 112]."""
    weight = np.random.default_rng(seed).standard_normal((4, 3, 5, 5)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["conv"], "conv", strides=[36, 36])],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("conv", TensorProto.FLOAT, ["N", 4, 3, 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def images(tmp_path, monkeypatch) -> ImageDataset:
    """Six images; the cache is a folder of the test's own."""
    import cv2

    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(6):
        image = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    samples = tuple(Sample(folder / f"{i}.png", 0, str(i), "") for i in range(6))
    return ImageDataset(folder, ("happiness",), samples)


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "calibration").iterdir())


class Calibration:
    """A call of `cached_scales` with defaults; counts the images that were run, and keeps the warnings."""

    def __init__(self, images: ImageDataset) -> None:
        self.graph = small_graph()
        self.tensors = TENSORS
        self.reader = CalibrationReader(images, range(6), PREPROCESSING)
        self.method = "mse"
        self.set_key: str | None = "set"
        self.warnings: list[str] = []
        self.advanced = 0

    def __call__(self):
        self.warnings.clear()
        self.advanced = 0
        scales, self.ends, entry = cached_scales(
            self.graph,
            self.tensors,
            self.reader,
            self.method,
            self.set_key,
            warn=self.warnings.append,
            advance=self.advance,
            workers=1,
        )
        return scales, entry

    def advance(self, images: int) -> None:
        self.advanced += images


@pytest.fixture
def calibration(images) -> Calibration:
    return Calibration(images)


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """Grows by one with every calibration that is not taken from the cache."""
    done: list[int] = []

    def counted(*arguments, **options):
        done.append(1)
        return collect_activations(*arguments, **options)

    monkeypatch.setattr(cache, "collect_activations", counted)
    return done


def test_a_hit_gives_the_same_scales_to_the_bit(calibration, runs, tmp_path):
    scales, entry = calibration()
    assert (entry["cache"], len(runs)) == ("miss", 1)
    assert scales == activation_scales(
        collect_activations(calibration.graph, TENSORS, calibration.reader), "mse"
    )
    ends = calibration.ends
    assert ends == activation_ends(collect_activations(calibration.graph, TENSORS, calibration.reader), "mse")
    calibration.reader.skipped.append(tmp_path / "of an earlier pass")
    again, found = calibration()
    assert (found["cache"], len(runs)) == ("hit", 1)
    assert found["key"] == entry["key"] == entries(tmp_path)[0].stem
    assert (again, calibration.ends) == (scales, ends)
    assert all(type(scale) is np.float32 for scale in again.values())
    assert calibration.advanced == 6
    assert calibration.reader.require(6) == 6
    assert calibration.warnings == []
    calibration.tensors = TENSORS[::-1]
    assert calibration()[1] == found, "the order of the tensors decides nothing"


def test_an_entry_spells_its_key_out(calibration, tmp_path):
    _, entry = calibration()
    (path,) = entries(tmp_path)
    parts = json.loads(path.read_text())["parts"]
    assert path.stem == entry["key"] == cache._digest(parts)
    assert parts["calibration_set"] == "set"
    assert parts["images"] == [0, 1, 2, 3, 4, 5]
    assert parts["preprocessing"] == PREPROCESSING.to_dict()
    assert parts["tensors"] == ["conv", "image"]
    assert set(parts["versions"]) == {"numpy", "onnxruntime", "opencv", "architecture"}


def other_graph(calibration, monkeypatch):
    calibration.graph = small_graph(1)


def other_set(calibration, monkeypatch):
    calibration.set_key = "another set"


def fewer_images(calibration, monkeypatch):
    calibration.reader = CalibrationReader(calibration.reader.dataset, range(5), PREPROCESSING)


def other_preprocessing(calibration, monkeypatch):
    blurred = dataclasses.replace(PREPROCESSING, resize=120)
    calibration.reader = CalibrationReader(calibration.reader.dataset, range(6), blurred)


def other_method(calibration, monkeypatch):
    calibration.method = "entropy"


def fewer_tensors(calibration, monkeypatch):
    calibration.tensors = ("conv",)


def other_code(calibration, monkeypatch):
    monkeypatch.setattr(cache, "code_hash", lambda: "edited")


def other_versions(calibration, monkeypatch):
    monkeypatch.setattr(cache.ort, "__version__", "0.0.1")


@pytest.mark.parametrize(
    "change",
    [
        other_graph,
        other_set,
        fewer_images,
        other_preprocessing,
        other_method,
        fewer_tensors,
        other_code,
        other_versions,
    ],
)
def test_any_single_difference_is_a_miss(change, calibration, runs, monkeypatch, tmp_path):
    _, first = calibration()
    with monkeypatch.context() as patched:
        change(calibration, patched)
        _, second = calibration()
    assert (second["cache"], len(runs)) == ("miss", 2)
    assert second["key"] != first["key"]
    assert len(entries(tmp_path)) == 2
    assert calibration.warnings == []


@pytest.mark.parametrize("module", cache.CODE)
def test_an_edit_of_the_code_is_seen(module, monkeypatch, tmp_path):
    before = cache.code_hash()
    source = Path(sys.modules[module].__file__)
    edited = tmp_path / source.name
    edited.write_text(source.read_text().replace("import", "export", 1))
    monkeypatch.setattr(sys.modules[module], "__file__", str(edited))
    assert cache.code_hash() != before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def not_json(path: Path) -> None:
    path.write_bytes(b"\xff\x00")


def a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def changed_scale(path: Path) -> None:
    entry = json.loads(path.read_text())
    entry["scales"]["conv"] *= 2
    path.write_text(json.dumps(entry))


def no_scale(path: Path) -> None:
    entry = json.loads(path.read_text())
    entry["scales"] = {"conv": 0.0, "image": 0.1}
    entry["scales_sha256"] = cache._digest([entry["scales"], entry["ends"]])
    path.write_text(json.dumps(entry))


def half_a_range(path: Path) -> None:
    entry = json.loads(path.read_text())
    entry["ends"]["conv"] = [0.5]
    entry["scales_sha256"] = cache._digest([entry["scales"], entry["ends"]])
    path.write_text(json.dumps(entry))


def missing_scale(path: Path) -> None:
    entry = json.loads(path.read_text())
    del entry["scales"]["conv"]
    entry["scales_sha256"] = cache._digest([entry["scales"], entry["ends"]])
    path.write_text(json.dumps(entry))


def changed_part(path: Path) -> None:
    entry = json.loads(path.read_text())
    entry["parts"]["method"] = "minmax"
    path.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    "damage",
    [truncated, not_json, a_list, changed_scale, no_scale, missing_scale, half_a_range, changed_part],
)
def test_a_damaged_entry_is_ignored_and_written_again(damage, calibration, runs, tmp_path):
    scales, _ = calibration()
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    damage(path)
    again, entry = calibration()
    assert (entry["cache"], len(runs)) == ("miss", 2)
    assert again == scales
    assert len(calibration.warnings) == 1
    assert f"{path}: the calibration cache's entry is damaged" in calibration.warnings[0]
    assert path.read_bytes() == whole
    assert calibration()[1]["cache"] == "hit"


def test_a_folder_that_cannot_be_made_is_a_warning(calibration, runs, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "file"))
    scales, entry = calibration()
    assert (set(scales), entry, len(runs)) == (set(TENSORS), {"cache": "off", "key": None}, 1)
    assert len(calibration.warnings) == 1
    assert "calibration is not cached" in calibration.warnings[0]


def test_a_full_disk_is_a_warning(calibration, runs, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # stands in for a disk with 64 bytes left
    try:
        _, entry = calibration()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entry["cache"] == "miss"
    assert len(calibration.warnings) == 1
    assert "cannot be written (File too large)" in calibration.warnings[0]
    assert entries(tmp_path) == [], "something half-written is left"
    assert calibration()[1]["cache"] == "miss"
    assert len(runs) == 2


def test_without_a_key_nothing_is_cached(calibration, runs, tmp_path):
    calibration.set_key = None
    for _ in range(2):
        _, entry = calibration()
        assert entry == {"cache": "off", "key": None}
    assert len(runs) == 2
    assert not (tmp_path / "cache").exists()


def test_a_calibration_that_skipped_images_is_not_stored(calibration, runs, images, tmp_path):
    images.samples[2].path.write_bytes(b"no image")
    for _ in range(2):
        assert calibration()[1]["cache"] == "miss"
        assert calibration.reader.skipped == [images.samples[2].path]
    assert entries(tmp_path) == []


def test_an_error_leaves_no_entry(calibration, images, tmp_path):
    for sample in images.samples:
        sample.path.write_bytes(b"no image")
    with pytest.raises(EdgefelError, match="none of 6 images"):
        calibration()
    assert entries(tmp_path) == []


def test_two_processes_at_once(calibration, tmp_path):
    """Both calibrate, or the second finds what the first wrote; what stays is one whole entry."""
    onnx.save(calibration.graph, tmp_path / "model.onnx")
    code = f"""
import onnx
from edgefel.calib.cache import cached_scales
from edgefel.calib.reader import CalibrationReader
from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.preprocessing import default_preprocessing
from pathlib import Path
root = Path({str(tmp_path)!r})
samples = tuple(Sample(root / "images" / f"{{i}}.png", 0, str(i), "") for i in range(6))
dataset = ImageDataset(root / "images", ("happiness",), samples)
graph = onnx.load(root / "model.onnx")
print("ready", flush=True)
input()
for turn in range(20):
    reader = CalibrationReader(dataset, range(6), default_preprocessing(112))
    if turn % 2:
        for path in (root / "cache" / "calibration").glob("[!.]*.json"):
            path.unlink(missing_ok=True)
    scales, _, _ = cached_scales(graph, {TENSORS!r}, reader, "mse", "set", warn=print, workers=1)
print(sorted((name, float(scale)) for name, scale in scales.items()))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    scales, _ = calibration()
    assert said == [f"{sorted((name, float(scale)) for name, scale in scales.items())}\n"] * 2
    assert calibration()[1]["cache"] == "hit"
    assert len(entries(tmp_path)) == 1
