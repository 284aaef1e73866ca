"""`edgefel parity`: verdicts, marks, exit codes, and what is never compared on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner
from data.readers.trees_fer_plus import write_disagreeing
from exported import LABELS, save, varied_graph, varied_int8, varied_model, write_colours

from edgefel.calib.calibration_set import choose_calibration_set, write_calibration_set
from edgefel.cli.main import main
from edgefel.data.dataset import ImageDataset
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import save_onnx
from edgefel.export.parity.check import check_bundle
from edgefel.export.parity.limits import load_limits
from edgefel.export.record import model_info, source_entry
from edgefel.files.write import sha256
from edgefel.models.checkpoint import load_checkpoint
from edgefel.runtime.manifest import Manifest, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session

IMAGES = 64
# an untrained network loses much in INT8; what is broken on purpose loses far more
LIMITS = "int8: {min_agreement: 0.8, max_recall_loss: null, max_f1_loss: null, min_images: 50}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a checkpoint, images that it labels well, and the bundle made from it, not yet judged."""
    root = tmp_path_factory.mktemp("parity")
    checkpoint = load_checkpoint(save(root / "model", varied_model()))
    faces = open_dataset(write_colours(root / "faces", IMAGES))
    bundle = root / "bundle"
    bundle.mkdir()
    save_onnx(varied_graph(), bundle / "model.fp32.onnx")
    save_onnx(varied_int8(), bundle / "model.int8.onnx")
    calibrated = ImageDataset(faces.root, faces.labels, faces.samples[:8])
    write_calibration_set(bundle / "calibration.json", choose_calibration_set(calibrated, 8, 8, 0))
    files = [
        describe_file(bundle / f"model.{precision}.onnx", kind="onnx", precision=precision)
        for precision in ("fp32", "int8")
    ]
    manifest = Manifest(
        model_info(checkpoint.config), LABELS, default_preprocessing(112), tuple(files),
        source=source_entry(checkpoint, bundle),
    )  # fmt: skip
    write_manifest(bundle, manifest)
    (root / "limits.yaml").write_text(LIMITS)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy of it, moved as a whole: the bundle finds its checkpoint all the same."""
    return shutil.copytree(made, tmp_path / "copy")


def parity(root: Path, *arguments: object):
    options = ["--threads", 1, "--limits", root / "limits.yaml", *arguments]
    return CliRunner().invoke(
        main, ["parity", *map(str, [root / "bundle", "--data", root / "faces", *options])]
    )


def break_int8(root: Path) -> None:
    """Puts a file with one wrong scale in the place of the INT8 file."""
    path = root / "bundle" / "model.int8.onnx"
    save_onnx(varied_int8(8.0), path)
    manifest = read_manifest(root / "bundle")
    write_manifest(root / "bundle", manifest.with_file(describe_file(path, kind="onnx", precision="int8")))


def test_files_that_are_right_are_marked_and_calibration_images_are_left_out(root):
    copied = root / "faces" / "copied.png"
    shutil.copy(root / "faces" / "000.png", copied)
    with (root / "faces" / "labels.csv").open("a") as stream:
        stream.write("copied.png,neutral,test,x\n000.png,neutral,train,y\n")
    result = parity(root, "--json", "-o", root / "report")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    # the eight that calibrated, and the copy of one of them under another name
    assert document["left_out"] == {"train": 1, "calibration": 9}
    assert document["images"] == IMAGES - 8
    assert document["files"]["model.fp32.onnx"]["verdict"] == "pass"
    assert document["files"]["model.int8.onnx"]["verdict"] == "pass"
    assert document["files"]["model.int8.onnx"]["limits"]["min_agreement"] == 0.8
    for file in read_manifest(root / "bundle").files:
        assert file.parity["split"] == "test"
        del file.parity["inputs"], file.parity["split"]
        assert file.parity == document["files"][file.name]
    assert json.loads((root / "report" / "parity.json").read_text()) == document
    assert cv2.imread(str(root / "report" / "recall.png")).std() > 5


def test_the_file_of_votes_is_named_in_report_and_manifest(root):
    write_disagreeing(root / "fer-plus")
    options = ("--votes", "label.csv", "--precision", "fp32", "--threads", 1)
    result = CliRunner().invoke(
        main, ["parity", *map(str, (root / "bundle", "--data", root / "fer-plus", *options))]
    )
    assert result.exit_code == 0, result.output
    assert "labels: votes of label.csv" in result.stdout
    assert "fer2013new.csv differs in the votes of 3 of 32 images" in result.stderr
    (file,) = [file for file in read_manifest(root / "bundle").files if file.precision == "fp32"]
    assert file.parity["inputs"] == "fer-plus (votes: label.csv)"
    shown = CliRunner().invoke(
        main, ["parity", *map(str, (root / "bundle", "--data", root / "fer-plus", *options)), "--json"]
    )
    assert json.loads(shown.stdout)["votes"]["file"] == "label.csv"


def test_a_file_that_fails_is_told_marked_and_refused_by_the_runtime(root):
    break_int8(root)
    result = parity(root)
    assert result.exit_code == 3, result.output
    assert "model.int8.onnx: fail: " in result.stdout
    assert "recall of PyTorch, and its change in points" in result.stdout
    assert "left out: 0 images of the split train, 8 that calibration used" in result.stderr
    bundle = root / "bundle"
    verdicts = {file.precision: file.verdict for file in read_manifest(bundle).files}
    assert verdicts == {"fp32": "pass", "int8": "fail"}
    with pytest.raises(EdgefelError, match=r"int8\.onnx: failed its comparison with PyTorch: .*--force"):
        Session.open(bundle, "int8")
    with Session.open(bundle, "int8", force=True) as forced, Session.open(bundle) as default:
        assert (forced.precision, default.precision) == ("int8", "fp32")
    image = root / "faces" / "000.png"
    arguments = ["predict", str(bundle), str(image), "--no-detect", "--precision", "int8"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0


def test_one_precision_alone_leaves_the_others_as_they_are(root):
    result = parity(root, "--precision", "fp32", "--images", 16)
    assert result.exit_code == 0, result.output
    fp32, int8 = read_manifest(root / "bundle").files
    assert fp32.parity["images"] == 16
    assert int8.parity is None


def other_weights(root: Path) -> list[object]:
    from exported import tiny_model

    return ["--checkpoint", save(root / "other", tiny_model())]


def gone(root: Path) -> list[object]:
    (root / "model").rename(root / "elsewhere")
    return []


def all_calibrated(root: Path) -> list[object]:
    chosen = choose_calibration_set(open_dataset(root / "faces"), 200, 200, 0)
    (root / "bundle" / "calibration.json").unlink(missing_ok=True)
    write_calibration_set(root / "bundle" / "calibration.json", chosen)
    return []


def only_train(root: Path) -> list[object]:
    table = root / "faces" / "labels.csv"
    table.write_text(table.read_text().replace(",test,", ",train,"))
    return []


def changed_file(root: Path) -> list[object]:
    save_onnx(varied_int8(2.0), root / "bundle" / "model.int8.onnx")
    return []


def bad_limits(root: Path) -> list[object]:
    (root / "limits.yaml").write_text("int8: {min_agreement: 1.5}")
    return []


def other_names(root: Path) -> list[object]:
    # the weights are the same and their hash is: only the names of the outputs changed
    description = root / "model" / "model.json"
    description.write_text(description.read_text().replace('"anger"', '"rage"'))
    return []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (other_weights, "is not what"),
        (gone, "say where it is with --checkpoint"),
        (all_calibrated, "no image is left to compare on"),
        (only_train, "no images to compare on in 'test' (it has train)"),
        (changed_file, "SHA-256 differs"),
        (bad_limits, "it must be a number from 0 to 1"),
        (other_names, "disgust, anger, contempt, its checkpoint"),
        (lambda root: ["--precision", "fp16"], "no fp16 onnx file"),
        (lambda root: ["-o", root / "faces"], "the folder is not empty"),
        (lambda root: ["--layout", "imagenet"], "layout 'imagenet' is not known; choose one of: raf-db"),
    ],
    ids=[
        "weights",
        "gone",
        "calibrated",
        "train",
        "changed",
        "limits",
        "classes",
        "precision",
        "output",
        "layout",
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_the_manifest_stays(root, prepare, message):
    arguments = prepare(root)
    before = sha256(root / "bundle" / "manifest.json")
    result = parity(root, *arguments)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert result.stdout == ""
    assert sha256(root / "bundle" / "manifest.json") == before


def test_the_layout_of_the_data_can_be_named(root):
    options = {
        "limits": load_limits(root / "limits.yaml"),
        "precisions": ("fp32",),
        "images": 16,
        "threads": 1,
    }
    with pytest.raises(EdgefelError, match="faces: .*no .*"):
        check_bundle(root / "bundle", root / "faces", layout="expw", **options)
    check = check_bundle(root / "bundle", root / "faces", layout="folder", **options)
    assert check.images == 16


def test_a_checkpoint_that_moved_can_be_named(root):
    (root / "model").rename(root / "elsewhere")
    arguments = ["--precision", "fp32", "--images", 8, "--checkpoint", root / "elsewhere"]
    assert parity(root, *arguments).exit_code == 0


def test_a_missing_list_of_calibration_images_is_said(root):
    (root / "bundle" / "calibration.json").unlink()
    manifest = read_manifest(root / "bundle")
    path = root / "bundle" / "model.int8.onnx"
    builder = {"calibration": {"key": "0" * 64}}
    entry = describe_file(path, kind="onnx", precision="int8", builder=builder)
    write_manifest(root / "bundle", manifest.with_file(entry))
    result = parity(root, "--precision", "fp32", "--images", 8)
    assert result.exit_code == 0, result.output
    assert "calibration.json is missing: images that calibrated may be among" in result.stderr


def test_an_interrupt_is_exit_code_130(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgefel.export.parity.check.check_bundle", interrupted)
    result = CliRunner().invoke(main, ["parity", "bundle", "--data", "faces"])
    assert result.exit_code == 130
    assert result.stderr.strip().endswith("interrupted")
