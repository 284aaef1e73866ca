"""`edgefel predict` end to end on a really exported bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import cbook

from edgefel.cli.main import main

PORTRAIT = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def run(*arguments: object):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def lines(result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_face_in_a_photograph(nano_bundle, tmp_path):
    (record,) = lines(run(nano_bundle, PORTRAIT, "--json", "--save", tmp_path / "out"))
    (face,) = record["faces"]
    assert face["label"] == max(face["probabilities"], key=face["probabilities"].get)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(face["primary"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 <= face["confidence"] <= 1
    assert 100 < face["box"]["x"] < 200
    saved = cv2.imread(str(tmp_path / "out" / "grace_hopper.jpg"))
    assert saved.shape == cv2.imread(str(PORTRAIT)).shape
    assert not np.array_equal(saved, cv2.imread(str(PORTRAIT)))


def test_the_table_names_the_picture_and_the_label(nano_bundle):
    result = run(nano_bundle, PORTRAIT, "--precision", "int8")
    assert result.exit_code == 0
    assert "grace_hopper.jpg" in result.stdout
    assert "1 faces in 1 pictures" in result.stderr


def test_a_picture_without_a_face_is_an_empty_result(nano_bundle, tmp_path):
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 128, np.uint8))
    result = run(nano_bundle, tmp_path / "wall.png", "--json")
    assert lines(result) == [{"source": str(tmp_path / "wall.png"), "faces": []}]
    assert "no face found in 1" in result.stderr


def test_a_folder_with_an_unreadable_image(nano_bundle, tmp_path):
    shutil.copy(PORTRAIT, tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(PORTRAIT.read_bytes()[:50])
    result = run(nano_bundle, tmp_path, "--json")
    assert [Path(record["source"]).name for record in lines(result)] == ["a.jpg"]
    assert f"skipped 1 unreadable: {tmp_path / 'b.jpg'}" in result.stderr


def test_crops_are_taken_whole(nano_bundle, faces_folder):
    images = faces_folder / "images"
    records = lines(run(nano_bundle, images, "--no-detect", "--json"))
    assert len(records) == 140
    assert all(len(record["faces"]) == 1 for record in records)


def test_a_video_is_labelled_and_saved(nano_bundle, tmp_path):
    portrait = cv2.resize(cv2.imread(str(PORTRAIT)), (256, 300))
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (256, 300))
    for _ in range(5):
        writer.write(portrait)
    writer.release()
    records = lines(
        run(nano_bundle, tmp_path / "clip.avi", "--every", "2", "--save", tmp_path / "out", "--json")
    )
    assert [record["frame"] for record in records] == [0, 2, 4]
    assert all(len(record["faces"]) == 1 for record in records)
    saved = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert saved.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}", "{tmp}/absent.jpg"], "no such file or folder"),
        (["{bundle}", "{tmp}"], "no images in it"),
        (["{tmp}/absent", "{portrait}"], "edgefel export"),
        (["{bundle}", "{portrait}", "--precision", "fp16"], "no fp16 file"),
        (["{bundle}", "{portrait}", "--detector", "yunet"], "--detector-model"),
        (["{bundle}", "{broken}"], "nothing in it can be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(nano_bundle, tmp_path_factory, arguments, message):
    folder = tmp_path_factory.mktemp("bad")
    broken = tmp_path_factory.mktemp("broken") / "broken.jpg"
    broken.write_bytes(b"nothing")
    names = {"bundle": nano_bundle, "tmp": folder, "portrait": PORTRAIT, "broken": broken}
    result = run(*(argument.format(**names) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_changed_file_is_refused(nano_bundle, tmp_path):
    bundle = shutil.copytree(nano_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][0]["sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = run(bundle, PORTRAIT)
    assert result.exit_code == 2
    assert "model.fp32.onnx" in result.stderr
    assert run(bundle, PORTRAIT, "--force").exit_code == 0


def test_nothing_of_torch_is_imported(nano_bundle):
    code = (
        "import sys\nfrom edgefel.cli.main import main\n"
        f"main(['predict', {str(nano_bundle)!r}, {str(PORTRAIT)!r}, '--json'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'onnx', 'sklearn', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip().endswith("[]")
