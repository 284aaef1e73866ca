"""`edgefel predict` end to end on a really exported bundle."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import cbook
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.data.recording import VideoWriter
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import bundle_for_engines

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


def test_with_mirror_a_crop_and_its_mirror_image_get_the_same_distribution(nano_bundle, tmp_path):
    face = cv2.imread(str(PORTRAIT))[60:260, 150:350]
    for name, image in {"face.png": face, "mirrored.png": face[:, ::-1]}.items():
        cv2.imwrite(str(tmp_path / name), image)

    def distributions(*options: str) -> np.ndarray:
        result = run(nano_bundle, tmp_path, "--no-detect", "--json", *options)
        assert ("each image and its mirror image, averaged" in result.stderr) == bool(options)
        return np.array([list(record["faces"][0]["probabilities"].values()) for record in lines(result)])

    one, other = distributions()
    assert np.abs(one - other).max() > 1e-3
    both, mirrored = distributions("--mirror")
    np.testing.assert_allclose(both, mirrored, atol=0.1 * np.abs(one - other).max())  # resizing rounds
    np.testing.assert_allclose(both, (one + other) / 2, atol=0.1 * np.abs(one - other).max())


def test_the_table_names_the_image_and_the_label(nano_bundle):
    result = run(nano_bundle, PORTRAIT, "--precision", "int8")
    assert result.exit_code == 0
    assert "grace_hopper.jpg" in result.stdout
    assert "1 face in 1 image (" in result.stderr


def test_a_face_that_cannot_be_read_is_unsure_and_the_summary_says_why(nano_bundle, tmp_path):
    dark = cv2.imread(str(PORTRAIT))[60:260, 150:350] // 8
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    source = tmp_path / "dark.png", "--no-detect"
    (record,) = lines(result := run(nano_bundle, *source, "--json"))
    (face,) = record["faces"]
    parts = [part for part in face["quality_parts"].values() if part is not None]
    assert (face["label"], face["quality"]) == ("unsure", min(parts))
    assert face["top_label"] == max(face["probabilities"], key=face["probabilities"].get)
    assert "1 face unsure, since not well enough seen (exposure 1); see --min-quality" in result.stderr
    assert f"unsure: {face['top_label']}?" in run(nano_bundle, *source).stdout
    (record,) = lines(run(nano_bundle, *source, "--json", "--min-quality", 0))
    assert record["faces"][0]["label"] == face["top_label"]


def test_a_image_without_a_face_is_an_empty_result(nano_bundle, tmp_path):
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


def test_crops_that_are_not_square_are_seen_whole_as_in_evaluation(nano_bundle, tmp_path):
    crop = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "crop.png"), crop[..., ::-1])
    (record,) = lines(run(nano_bundle, tmp_path / "crop.png", "--no-detect", "--json"))
    (face,) = record["faces"]
    assert face["box"] == {"x": 0, "y": 0, "width": 160, "height": 90}
    with Session.open(nano_bundle, threads=1) as session:
        (expected,) = session([crop]).probabilities
    np.testing.assert_allclose(list(face["probabilities"].values()), expected, atol=1e-6)


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
        (["{bundle}", "{broken}"], "replace it or leave it out"),
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


def test_names_with_brackets_and_folders_are_shown_as_they_are(tiny, tmp_path):
    folder = tmp_path / "photos" / "x[a]"
    folder.mkdir(parents=True)
    shutil.copy(PORTRAIT, folder / "[bold]b[,red].jpg")
    (folder / "[broken].jpg").write_bytes(b"")
    result = run(tiny, tmp_path / "photos", "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "x[a]/[bold]b[,red].jpg" in result.stdout
    assert str(folder / "[broken].jpg") in result.stderr
    assert "(model.fp32.onnx by onnxruntime)" in result.stderr


def test_annotated_crops_show_the_whole_crop(tiny, tmp_path):
    crop = np.random.default_rng(0).integers(0, 256, (400, 350, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "crop.png"), crop)
    assert run(tiny, tmp_path / "crop.png", "--no-detect", "--save", tmp_path / "out").exit_code == 0
    saved = cv2.imread(str(tmp_path / "out" / "crop.png"))
    assert np.array_equal(saved[:, :350], crop)
    assert saved.shape[1] > 500


def test_images_are_not_saved_into_their_source_or_under_a_file_name(tiny, tmp_path):
    shutil.copy(PORTRAIT, tmp_path / "a.jpg")
    for save, message in (
        (tmp_path, "lies in the source"),
        (tmp_path / "out", "lies in the source"),
        (tmp_path / "x.png", "--save takes a folder"),
    ):
        result = run(tiny, tmp_path, "--save", save)
        assert result.exit_code == 2
        assert message in result.stderr
    result = run(tiny, tmp_path / "a.jpg", "--save", tmp_path)
    assert result.exit_code == 2
    assert "would overwrite" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() == PORTRAIT.read_bytes()


def command_line(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where the libraries' own messages on stderr can be seen."""
    command = [sys.executable, "-m", "edgefel.cli.main", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cut_and_broken_videos(tiny, tmp_path):
    portrait = cv2.resize(cv2.imread(str(PORTRAIT)), (256, 300))
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (256, 300))
    for _ in range(8):
        writer.write(portrait)
    writer.release()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    result = run(tiny, file, "--json", "--save", tmp_path / "out")
    assert 0 < len(lines(result)) < 8
    assert "of the video missing before its announced end" in result.stderr
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 10)
    result = command_line(tiny, tmp_path / "broken.mp4")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "OpenCV cannot open this as a video" in result.stderr


def write_uneven(file: Path) -> list[float]:
    """Eight frames, most of them in the first 0.2 s and the last after 0.617; their times."""
    times = [0.0, 0.033, 0.067, 0.1, 0.133, 0.167, 0.2, 0.617]
    recording = VideoWriter(file, 12.0)
    for number, time in enumerate(times):
        recording.write(np.full((48, 64, 3), 20 * number, np.uint8), time)
    recording.close()
    return times


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_times_of_a_variable_frame_rate(tiny, tmp_path, suffix):
    """As `run` gives them, and in the annotated video too."""
    clip = tmp_path / f"clip{suffix}"
    times = write_uneven(clip)
    result = run(tiny, clip, "--no-detect", "--json", "--save", tmp_path / "out")
    assert [record["time"] for record in lines(result)] == pytest.approx(times, abs=2e-3)
    assert "missing" not in result.stderr
    streamed = CliRunner().invoke(main, ["run", str(tiny), "--source", str(clip), "--json"])
    assert [record["time"] for record in lines(streamed)] == pytest.approx(times, abs=2e-3)
    assert "missing" not in streamed.stderr
    capture, saved = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"), cv2.CAP_FFMPEG), []
    while capture.grab():
        saved.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
    assert saved == pytest.approx(times, abs=2e-3)
    every = lines(run(tiny, clip, "--no-detect", "--json", "--every", "3"))
    assert [(record["frame"], record["time"]) for record in every] == [
        (number, pytest.approx(times[number], abs=2e-3)) for number in (0, 3, 6)
    ]


def test_what_is_in_the_folder_is_kept(tiny, tmp_path):
    write_uneven(tmp_path / "clip.mkv")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    for source, target in (("clip.mkv", "clip.mp4"), ("a.png", "a.png")):
        (out / target).write_text("precious")
        result = run(tiny, tmp_path / source, "--no-detect", "--save", out)
        assert result.exit_code == 2
        assert re.fullmatch(rf"error: {out / target}: exists; .*--overwrite\n", result.stderr)
        assert (out / target).read_text() == "precious"
        assert run(tiny, tmp_path / source, "--no-detect", "--save", out, "--overwrite").exit_code == 0
        assert (out / target).read_bytes() != b"precious"
    assert run(tiny, tmp_path / "a.png", "--overwrite").exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_video_on_a_full_disk_is_an_error_and_leaves_nothing(tiny, tmp_path):
    recording = VideoWriter(tmp_path / "clip.mkv", 20.0)
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    for number in range(12):
        recording.write(np.roll(noise, number, 1), number / 20)
    recording.close()
    script = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from edgefel.cli.main import main
main(["predict", *sys.argv[1:]])
"""
    command = [
        sys.executable,
        "-c",
        script,
        tiny,
        tmp_path / "clip.mkv",
        "--no-detect",
        "--save",
        tmp_path / "out",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path / 'out' / 'clip.mp4'}: not every frame could be written (File too large)"
    )
    assert not (tmp_path / "out").exists()


def test_names_are_checked_before_the_model_is_loaded(tmp_path):
    """A bundle that is none would be told otherwise."""
    write_uneven(tmp_path / "clip.mp4")
    result = run(tmp_path, tmp_path / "clip.mp4", "--save", tmp_path)
    assert result.stderr.startswith(f"error: {tmp_path / 'clip.mp4'}: would overwrite the video itself")


def test_without_a_bundle_the_network_that_comes_with_edgefel_labels(shipped, tmp_path):
    (record,) = lines(run(PORTRAIT, "--json", "--save", tmp_path / "out"))
    assert lines(run(shipped, PORTRAIT, "--json")) == [record]
    assert lines(run("--json", PORTRAIT)) == [record]
    assert (tmp_path / "out" / "grace_hopper.jpg").is_file()
    copy = bundle_for_engines()
    (copy / "model.fp32.onnx").write_bytes(b"changed")
    assert str(copy) in run(PORTRAIT).stderr  # the copy is what runs


def test_without_a_bundle_and_without_that_network_it_says_what_to_give(none_shipped):
    result = run(PORTRAIT)
    assert result.exit_code == 2
    assert re.fullmatch(r"error: this installation holds no network; give BUNDLE, .*\n", result.stderr)


def test_a_bundle_alone_is_told_from_a_source(shipped, tmp_path):
    result = run(shipped)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {shipped}: is a bundle, and SOURCE is missing; give an image, a folder of images or a video after it\n"
    )
    shutil.copy(PORTRAIT, tmp_path / "a.jpg")
    (tmp_path / "manifest.json").write_text("{}")  # of something else
    assert [Path(record["source"]).name for record in lines(run(tmp_path, "--json"))] == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Error: Missing argument 'SOURCE'."),
        (("a", "b", "c"), "Error: Got unexpected extra argument (c)"),
        (("a", "b", "c", "d"), "Error: Got unexpected extra arguments (c d)"),
    ],
)
@pytest.mark.usefixtures("none_shipped")
def test_too_few_and_too_many_arguments_are_clicks_own_errors(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: main predict [OPTIONS] [BUNDLE] SOURCE\n")
    assert result.stderr.splitlines()[-1] == message


def test_two_images_are_not_a_bundle_and_a_source(none_shipped):
    result = run(PORTRAIT, PORTRAIT)
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: {PORTRAIT}: is a file, and BUNDLE a folder of 'edgefel export'; give one"
    )
