"""Folders of images as people have them: a bad one costs itself alone, whatever the command."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import cbook
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.data.images import decode_rgb
from edgefel.errors import EdgefelWarning
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import HaarDetector, detect_near
from edgefel.runtime.yunet import YuNetDetector

PORTRAIT = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
LATIN = os.fsdecode(b"caf\xe9.jpg")
REASONS = {
    "long.png": "10000x1 pixels are a line",
    "tall.png": "1x10000 pixels are a line",
    "bomb.bmp": "30000x30000 pixels are more than",
    "pipe.jpg": "cannot be read (is a named pipe",
    "zero.jpg": "cannot be read (is a device",
    "dangling.jpg": "cannot be read (No such file",
    "empty.jpg": "the file is empty",
    "renamed.jpg": "a HEIC file, which is not read here",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """class/image: two that can be read, those of REASONS, and some that are left out by their names."""
    photos = tmp_path_factory.mktemp("odd") / "photos" / "happiness"
    photos.mkdir(parents=True)
    for name in ("a.jpg", LATIN):
        (photos / name).write_bytes(PORTRAIT.read_bytes())
    cv2.imwrite(str(photos / "long.png"), np.zeros((1, 10_000, 3), np.uint8))
    cv2.imwrite(str(photos / "tall.png"), np.zeros((10_000, 1, 3), np.uint8))
    bomb = bytearray(cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    bomb[18:26] = (30_000).to_bytes(4, "little") * 2
    (photos / "bomb.bmp").write_bytes(bomb)
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    (photos / "dangling.jpg").symlink_to("nowhere")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "folder.jpg").mkdir()
    (photos / "renamed.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("b.heic", "c.HEIC", "d.jxl", "notes.txt"):
        (photos / name).write_bytes(b"x")
    return photos.parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd-bundle") / "bundle"
    write_bundle(folder)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check_named(text: str) -> None:
    for name, reason in REASONS.items():
        assert f"{name} ({reason}" in text or f"{name}: {reason}" in text, (name, text)


LEFT_OUT = "left out 2 .heic, 1 .jxl: not read here; convert them to JPEG or PNG"


def test_predict_skips_counts_and_names_them(bundle, folder, tmp_path):
    result = run("predict", bundle, folder, "--json", "--save", tmp_path / "out")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [os.path.basename(record["source"]) for record in records] == ["a.jpg", LATIN]  # noqa: PTH119 - a text
    assert records[0]["faces"] == records[1]["faces"] != []
    assert f"skipped {len(REASONS)} unreadable: " in result.stderr
    check_named(result.stderr)
    assert LEFT_OUT in result.stderr
    saved = sorted(os.listdir(os.fsencode(tmp_path / "out" / "happiness")))  # noqa: PTH208 - bytes
    assert saved == [b"a.jpg", os.fsencode(LATIN)]


def test_predict_shows_any_name_in_its_table(bundle, folder):
    result = run("predict", bundle, folder)
    assert result.exit_code == 0, result.output
    assert "a.jpg" in result.stdout


def test_run_counts_them(bundle, folder, tmp_path):
    outputs = [tmp_path / "r.jsonl", tmp_path / "r.csv"]
    result = run("run", bundle, "--source", folder, "-o", outputs[0], "-o", outputs[1])
    assert result.exit_code == 0, result.output
    assert f"{len(REASONS)} images skipped, since unreadable" in result.stderr
    assert "left out 2 .heic, 1 .jxl: not read here" in result.stderr
    sources = [json.loads(line)["source"] for line in outputs[0].read_text(encoding="utf-8").splitlines()]
    assert sources[-1].endswith("/" + LATIN)
    assert r"caf\udce9.jpg" in outputs[1].read_text(encoding="utf-8")


def test_inspect_counts_and_names_them(folder):
    result = run("data", "inspect", folder, "--json", "--workers", 1)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["left_out"] == {".heic": 2, ".jxl": 1}
    found = {Path(one["path"]).name: one["reason"] for one in report["unreadable"]["listed"]}
    assert found.keys() == REASONS.keys()
    check_named("".join(f"{name}: {reason}\n" for name, reason in found.items()))
    assert run("data", "inspect", folder).exit_code == 0


def test_prepare_goes_on_past_them(folder, tmp_path):
    result = run("data", "prepare", folder, "-o", tmp_path / "crops", "--workers", 1, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["faces"], report["left_out"]) == (2, {".heic": 2, ".jxl": 1})
    assert {one["path"].rpartition("/")[2] for one in report["unreadable"]} == REASONS.keys()
    assert len(list((tmp_path / "crops").rglob("*.jpg"))) == 2


def test_a_sheet_shows_those_that_can_be_read(folder, tmp_path):
    result = run("data", "sheet", folder, "-o", tmp_path / "s.png")
    assert result.exit_code == 0, result.output
    assert decode_rgb((tmp_path / "s.png").read_bytes(), tmp_path / "s.png").size


def test_what_is_left_out_is_said_once_for_a_data_set(folder):
    from edgefel.data.open import open_dataset
    from edgefel.data.readers.folder import open_unlabelled

    for opened in (open_dataset, open_unlabelled):
        with pytest.warns(EdgefelWarning, match=f"{re.escape(str(folder))}: {LEFT_OUT}"):
            assert opened(folder).left_out == {".heic": 2, ".jxl": 1}
    result = run("data", "inspect", folder, "--workers", 1)
    assert result.stderr.count(f"warning: {folder}: {LEFT_OUT}\n") == 1
    assert open_dataset(folder).subset([0]).left_out == {".heic": 2, ".jxl": 1}


def test_a_folder_of_nothing_that_is_read_says_what_there_is(bundle, tmp_path):
    for name in ("a.heic", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    result = run("predict", bundle, tmp_path)
    assert result.exit_code == 2
    assert (
        "no images in it; left out 1 .heic: not read here; convert them to JPEG or PNG; left out 1 .mp4"
        in result.stderr
    )
    result = run("predict", bundle, tmp_path / "a.heic")
    assert ".heic is not read here; convert it to JPEG or PNG" in result.stderr
    result = run("data", "inspect", tmp_path)
    assert result.exit_code == 2


def test_a_single_bad_image_says_why(bundle, folder):
    for name, reason in REASONS.items():
        if name == "dangling.jpg":
            continue
        result = run("predict", bundle, folder / "happiness" / name)
        assert result.exit_code == 2
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_limit_of_pixels_is_an_option_of_every_reader_of_images(bundle, folder, monkeypatch):
    monkeypatch.delenv("EDGEFEL_MAX_PIXELS", raising=False)
    result = run("predict", bundle, folder, "--json", "--max-pixels", 1000)
    assert result.exit_code == 2
    assert "are more than 1000; shrink it, or give --max-pixels" in result.stderr
    assert "EDGEFEL_MAX_PIXELS" not in os.environ
    for words in (
        *(
            ["predict"],
            ["run"],
            ["train"],
            ["evaluate"],
            ["calibrate"],
            ["export"],
            ["parity"],
            ["ablate", "run"],
        ),
        *(["data", "inspect"], ["data", "prepare"], ["data", "sheet"]),
    ):
        assert (
            "--max-pixels" in run(*words, "--help").output or "--max-pixels" in run(words[0], "--help").output
        ), words


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_libraries_get_no_name_that_is_not_utf8(bundle, folder, tmp_path, suffix):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / f"v{suffix}").write_bytes(b"x")
    (odd / "manifest.json").write_text("{}")
    for arguments in (
        ["predict", bundle, odd / f"v{suffix}"],
        ["run", bundle, "--source", odd / f"v{suffix}"],
        ["predict", odd, PORTRAIT],
        ["run", bundle, "--source", PORTRAIT, "--save", odd / f"w{suffix}"],
        ["predict", bundle, PORTRAIT, "--detector", "yunet", "--detector-model", odd / f"v{suffix}"],
        ["data", "video", "-o", odd / "v.mp4", "--seconds", "5", "--changes", "1"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        last = result.stderr.splitlines()[-1]
        assert "its name is not UTF-8" in last
        assert r"caf\udce9" in last


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 1), (30, 3000), (3, 40_000), (33_000, 40)])
def test_detectors_take_images_of_any_shape(shape):
    image = np.zeros((*shape, 3), np.uint8)
    detectors = [HaarDetector()] + ([YuNetDetector(YUNET)] if YUNET.is_file() else [])
    for detector in detectors:
        assert detector(image) == []
        assert (
            detect_near(detector, image, [FaceBox(0, 0, 5000), FaceBox(0, 0, 1), FaceBox(-10, -10, 40)]) == []
        )


@pytest.mark.parametrize("shape", [(30, 3000), (3000, 30), (2, 200)])
def test_a_narrow_image_is_labelled_and_saved(bundle, tmp_path, shape):
    cv2.imwrite(str(tmp_path / "narrow.png"), np.full((*shape, 3), 90, np.uint8))
    for options in (["--no-detect"], []):
        result = run(
            "predict",
            bundle,
            tmp_path / "narrow.png",
            "--json",
            "--save",
            tmp_path / f"o{len(options)}",
            *options,
        )
        assert result.exit_code == 0, result.output
