"""`edgefel pack`."""

from __future__ import annotations

import hashlib
import json
import shlex
import tarfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.runtime.kernels import KernelFolder

NANO = Path(__file__).parent.parent / "bundles" / "nano-synthetic"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", ("fp32", "fp16"))


def run(*arguments: object):
    return CliRunner().invoke(main, ["pack", *map(str, arguments)])


def test_an_archive_with_its_table_and_the_commands_for_the_device(bundle, tmp_path):
    output = tmp_path / "my edge.tar"
    result = run(bundle, "-o", output, "--no-kernels")
    assert result.exit_code == 0, result.output
    assert "model/model.fp16.onnx" in result.stdout
    assert "install.sh" in result.stdout
    assert f"scp '{output}' USER@DEVICE:" in result.stdout
    # quoted for the shell here and for the one there
    unpack, install = (shlex.split(line)[-1] for line in result.stdout.splitlines()[-2:])
    assert shlex.split(unpack) == ["tar", "xf", "my edge.tar"]
    with tarfile.open(output) as tar:
        assert "my edge/run.sh" in tar.getnames()
        index = tar.extractfile("my edge/index.json").read()
    digest = hashlib.sha256(index).hexdigest()
    assert shlex.split(install) == ["./my edge/install.sh", "--index-sha256", digest]
    assert digest in run(output, "--verify").stdout


def test_json_names_every_file(bundle, tmp_path):
    result = run(bundle, "-o", tmp_path / "edge", "--no-kernels", "--precision", "fp16", "--json")
    deploy = json.loads(result.stdout)["deploy"]
    assert deploy["precisions"] == ["fp16"]
    assert {"path", "bytes", "sha256"} == set(deploy["files"][0])
    assert deploy["files"][-1]["path"] == "index.json"
    assert deploy["index_sha256"] == deploy["files"][-1]["sha256"]
    assert deploy["commands"][0] == f"scp -r {tmp_path / 'edge'} USER@DEVICE:"


def test_verify(bundle, tmp_path):
    run(bundle, "-o", tmp_path / "edge.tar", "--no-kernels")
    result = run(tmp_path / "edge.tar", "--verify")
    assert result.exit_code == 0, result.output
    assert "each as it was packed" in result.stdout
    document = json.loads(run(tmp_path / "edge.tar", "--verify", "--json").stdout)
    assert (document["name"], document["extra"]) == ("edge", 0)
    data = bytearray((tmp_path / "edge.tar").read_bytes())
    data[data.index(b"neutral\n")] = ord("X")
    (tmp_path / "edge.tar").write_bytes(data)
    result = run(tmp_path / "edge.tar", "--verify")
    assert result.exit_code == 2
    assert "1 changed (model/labels.txt)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to write: give -o edge.tar"),
        (("-o", "edge.tar", "--verify"), "--verify writes nothing"),
        (("-o", "e.tar", "--kernels", "k", "--no-kernels"), "--kernels and --no-kernels exclude each other"),
        (("-o", "e.tar", "--kernels", "k"), "kernels.json: no such file"),
        (("-o", "e.tar", "--precision", "int8"), "no int8 onnx file in this bundle"),
        (("-o", ".tar"), "has no name for the folder inside"),
        (("--triton-repository", "t", "--precision", "fp16", "--precision", "fp32"), "give --precision once"),
        (("-o", "e.zip"), "this kind of archive is not written"),
        (("-o", "e.tar", "--triton-engine"), "--triton-engine belongs to --triton-repository"),
        (("-o", "e.tar", "--triton-instances", "2"), "--triton-instances belongs to --triton-repository"),
        (("-o", "e.tar", "--max-batch", "4"), "--max-batch belongs to --triton-repository and --deepstream"),
        (("--triton-repository", "t", "--deepstream", "./t"), "two outputs have the same name"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(bundle, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(bundle, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["--triton-repository", "--deepstream"])
def test_one_output_that_is_taken_stops_all(bundle, tmp_path, taken):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    others = {"-o", "--triton-repository", "--deepstream"} - {taken}
    arguments = [argument for name in others for argument in (name, tmp_path / f"new{name}.tar")]
    result = run(bundle, *arguments, taken, tmp_path / "taken", "--no-kernels", "--precision", "fp32")
    assert result.exit_code == 2
    assert "taken: the folder is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_folder_that_is_no_bundle(tmp_path):
    result = run(tmp_path, "-o", tmp_path / "edge.tar")
    assert result.exit_code == 2
    assert "no manifest.json here" in result.stderr


def test_an_archive_is_replaced_only_when_asked(bundle, tmp_path):
    assert run(bundle, "-o", tmp_path / "edge.tar", "--no-kernels").exit_code == 0
    result = run(bundle, "-o", tmp_path / "edge.tar", "--no-kernels")
    assert (result.exit_code, "pass --overwrite" in result.stderr) == (2, True)
    assert run(bundle, "-o", tmp_path / "edge.tar", "--no-kernels", "--overwrite").exit_code == 0


def test_servers(bundle, tmp_path):
    pytest.importorskip("onnx")
    arguments = ("--triton-repository", tmp_path / "models", "--deepstream", tmp_path / "nvinfer")
    result = run(
        bundle, *arguments, "--precision", "fp32", "--max-batch", 4, "--triton-device", "cpu", "--json"
    )
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    for name, folder in (("triton", "models"), ("deepstream", "nvinfer")):
        assert written[name]["files"]
        for file in written[name]["files"]:
            assert (tmp_path / folder / file).is_file()
    configs = [file for file in written["triton"]["files"] if file.endswith("config.pbtxt")]
    texts = [(tmp_path / "models" / file).read_text() for file in configs]
    assert any("max_batch_size: 4" in text for text in texts)
    assert any("KIND_CPU" in text for text in texts)


@pytest.mark.slow
def test_kernels_are_compiled_and_packed(tmp_path, compiling):
    pytest.importorskip("triton")
    # one kernel shows that they are packed; that all of them compile is shown for `edgefel kernels compile`
    one = (
        "from edgefel.models import inference_kernels as kernels\n"
        "every = kernels.inference_kernels\n"
        "kernels.inference_kernels = lambda *given: [k for k in every(*given) if k.name.endswith('level1')]\n"
    )
    options = ("-o", tmp_path / "edge", "--arch", "sm_87", "--json")
    result = compiling("pack", NANO, *options, first=one)
    assert result.returncode == 0, result.stderr
    kernels = KernelFolder.open(tmp_path / "edge" / "kernels")
    assert (kernels.model, kernels.archs) == ("arbex-nano", ["sm_87"])
    assert "window_cross_attention_level1" in kernels.names
    assert json.loads(result.stdout)["deploy"]["kernels"] == ["sm_87"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_a_bundle_the_network_that_comes_with_edgefel_is_packed(shipped, tmp_path):
    """Once, as the model: not in the wheel of edgefel too."""
    given, own = tmp_path / "given" / "edge.tar", tmp_path / "own" / "edge.tar"
    assert run(shipped, "-o", given, "--no-kernels").exit_code == 0
    assert run("-o", own, "--no-kernels").exit_code == 0
    assert given.read_bytes() == own.read_bytes()
    with tarfile.open(own) as tar:
        assert tar.extractfile("edge/model/model-card.md").read() == b"# Tiny\n"
        (wheel,) = (name for name in tar.getnames() if name.endswith(".whl"))
        with zipfile.ZipFile(tar.extractfile(wheel)) as archive:
            assert not [name for name in archive.namelist() if name.startswith("edgefel/networks/")]
    assert "each as it was packed" in run(own, "--verify").stdout


@pytest.mark.usefixtures("none_shipped")
def test_without_a_bundle_it_says_what_to_give(tmp_path):
    for arguments, message in (
        (("-o", tmp_path / "edge.tar"), "this installation holds no network; give BUNDLE"),
        (("--verify",), "--verify needs an archive or folder of 'edgefel pack' in the place of BUNDLE"),
        ((), "nothing to write: give -o edge.tar"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []
