"""install.sh, run.sh and the systemd unit, as far as they go without a package index.

tests/test_base_install.py runs install.sh for real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.files.write import sha256
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest

DEVICE = Path(__file__).parent.parent.parent / "edgefel" / "deploy" / "device"
SCRIPTS = ("install.sh", "run.sh")
R36 = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
R38 = "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n"
R35 = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n"

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell here")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    bundle = write_bundle(place / "bundle", ("fp32", "fp16", "int8", "int8+fp16"))
    write_deploy_folder(bundle, place / "edge", DeployOptions(without_kernels=True))
    return place / "edge"


@pytest.fixture
def folder(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "a place"))


def install(folder: Path, *arguments: str, release: str | None = None, **environment: str):
    file = folder.parent / "nv_tegra_release"
    if release is not None:
        file.write_text(release)
    return subprocess.run(
        [str(folder / "install.sh"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        # a version manager's python3 takes longer to start than all the rest
        env=os.environ | {"EDGEFEL_TEGRA_RELEASE": str(file), "PYTHON": sys.executable} | environment,
        cwd=folder.parent,
    )


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_shell_can_read_it(name, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", DEVICE / name], check=True)


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here; apt install shellcheck")
    result = subprocess.run(
        ["shellcheck", *(DEVICE / name for name in SCRIPTS)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (None, "no Jetson ("),
        (R36, "JetPack 6 (L4T 36.4.3)"),
        (R38, "JetPack 7 (L4T 38.2.0)"),
        (R38.replace("R38", "R39"), "JetPack 7 (L4T 39.2.0)"),
        (R38.replace("R38", "R45"), "L4T 45.2.0 is unknown to this script"),
        ("garbage\n", "cannot read the release; going on"),
    ],
)
def test_jetpack_is_recognised_and_check_changes_nothing(folder, release, said):
    before = sorted(folder.rglob("*"))
    result = install(folder, "--check", release=release)
    assert result.returncode == 0, result.stderr
    assert said in result.stdout + result.stderr
    assert f"would install into {folder}" in result.stdout
    assert sorted(folder.rglob("*")) == before


def test_jetpack_5_is_refused(folder):
    result = install(folder, "--check", release=R35)
    assert result.returncode == 2
    assert "L4T 35.4.1 is too old: edgefel needs JetPack 6" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fast",), "unknown option --fast"),
        (("--prefix",), "--prefix needs a value"),
        (("--prefix=",), "--prefix: give a folder"),
        (("--precision", "fp4"), "--precision fp4: choose fp32"),
    ],
)
def test_wrong_options_are_one_line(folder, arguments, message):
    result = install(folder, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_of_something_else_is_not_installed_into(folder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "model").write_text("precious")
    result = install(folder, "--prefix", str(tmp_path / "photos"))
    assert result.returncode == 2
    assert "is not empty and holds no earlier installation" in result.stderr
    assert (tmp_path / "photos" / "model").read_text() == "precious"
    (tmp_path / "photos" / "index.json").write_text('{"format": "gallery"}')
    result = install(folder, "--prefix", tmp_path / "photos", "--check")
    assert result.returncode == 2
    assert (tmp_path / "photos" / "model").read_text() == "precious"


def test_an_old_python_is_named(folder, tmp_path):
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10"\nexit 1\n')
    old.chmod(0o755)
    result = install(folder, "--check", PYTHON=str(old))
    assert result.returncode == 2
    assert "Python 3.8.10 is too old, edgefel needs 3.10 or later" in result.stderr
    result = install(folder, "--check", PYTHON="python-that-is-not-here")
    assert "no python-that-is-not-here; on Debian and Ubuntu" in result.stderr


def test_the_python_is_python3_by_default(folder):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    command = [str(folder / "install.sh"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr


def test_an_incomplete_folder_is_named(folder):
    (folder / "index.json").unlink()
    result = install(folder, "--check")
    assert result.returncode == 2
    assert "is not a whole folder of 'edgefel pack'" in result.stderr


def change_index(folder: Path, change) -> None:
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


def plant(path: Path, text: str = "print('run before it was looked at')\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: plant(f / "model" / "labels.txt"), "'model/labels.txt' is not what was packed"),
        (lambda f: plant(f / "run.sh"), "'run.sh' is not what was packed"),
        (
            lambda f: plant(f / "model" / "manifest.json", "{}"),
            "'model/manifest.json' is not what was packed",
        ),
        (lambda f: next((f / "wheels").iterdir()).write_bytes(b"PK"), "is not what was packed"),
        (lambda f: (f / "precision.env").unlink(), "'precision.env' is missing"),
        (lambda f: plant(f / "venv.py"), "'venv.py' is not of what was packed: move it elsewhere, or"),
        (
            lambda f: plant(f / "wheels" / "numpy-99-py3-none-any.whl"),
            "'wheels/numpy-99-py3-none-any.whl' is not of",
        ),
        (lambda f: link(f / "run.sh", f.parent / "run.sh"), "'run.sh' is a link"),
        (lambda f: link(f / "model", f.parent / "model"), "'model' is a link"),
        (lambda f: os.mkfifo(f / "model" / "more"), "'model/more' is no plain file"),
        (lambda f: plant(f / "index.json", "[" * 100_000), "index.json is damaged"),
        (
            lambda f: change_index(f, lambda i: i["files"].update({"../x": {"sha256": "0"}})),
            "index.json is damaged",
        ),
        (
            lambda f: change_index(f, lambda i: i["files"].update({"/etc/passwd": {"sha256": "0"}})),
            "is damaged",
        ),
        (lambda f: change_index(f, lambda i: i.update(edgefel="../../evil-1")), "index.json is damaged"),
        (lambda f: change_index(f, lambda i: i.update(edgefel="9.9")), "index.json is damaged"),
    ],
)
def test_nothing_is_installed_that_was_not_packed(folder, change, message):
    change(folder)
    before = sorted(folder.rglob("*"))
    result = install(folder, "--offline" if "numpy" not in message else "--no-engine")
    assert result.returncode == 2, result.stdout
    (line,) = result.stderr.splitlines()
    assert message in line
    assert line.endswith("; copy the whole folder again")
    assert "looked at" not in result.stdout
    assert sorted(folder.rglob("*")) == before


def test_the_index_is_checked_against_what_was_printed(folder):
    """Who changes a file can change its hash in index.json as well; the one that a person has seen, they cannot."""
    digest = sha256(folder / "index.json")
    result = install(folder, "--check", "--index-sha256", digest.upper())
    assert result.returncode == 0, result.stderr
    assert f"SHA-256 of index.json: {digest}" in result.stdout
    # nothing may have joined it, not even what installations make
    plant(folder / "venv" / "bin" / "python")
    assert install(folder, "--check").returncode == 0
    result = install(folder, "--check", f"--index-sha256={digest}")
    assert (result.returncode, "'venv/bin/python' is not of what was packed" in result.stderr) == (2, True)
    shutil.rmtree(folder / "venv")
    change_index(folder, lambda index: index.update(model="other"))
    assert install(folder, "--check").returncode == 0
    result = install(folder, "--check", "--index-sha256", digest)
    assert result.returncode == 2
    assert (
        f"index.json has the SHA-256 {sha256(folder / 'index.json')}, and {digest} was asked for"
        in result.stderr
    )
    result = install(folder, "--check", "--index-sha256=")
    assert (result.returncode, "--index-sha256: give the 64 digits" in result.stderr) == (2, True)


def test_what_an_installation_makes_does_no_harm(folder):
    """An environment, engines and their entry in the manifest, settings; packages for --offline."""
    plant(folder / "venv" / "pyvenv.cfg")
    plant(folder / "cache" / "engines" / "x")
    plant(folder / "service.env", "EDGEFEL_ARGUMENTS=--source csi\n")
    plant(folder / "model" / "model.fp16.engine", "engine")
    manifest = read_manifest(folder / "model")
    engine = describe_file(folder / "model" / "model.fp16.engine", kind="engine", precision="fp16")
    write_manifest(folder / "model", manifest.with_file(engine))
    assert install(folder, "--check").returncode == 0
    plant(folder / "wheels" / "numpy-99-py3-none-any.whl")
    result = install(folder, "--check", "--offline")
    assert result.returncode == 0, result.stderr
    assert (
        "not checked, since they were added to wheels/ for --offline: 1, such as 'wheels/numpy-99"
        in result.stdout
    )


def test_the_service_never_runs_as_root(folder, tmp_path):
    def check(*arguments: str, **environment: str):
        return install(
            folder, "--check", *arguments, PATH=f"{tmp_path / 'fakes'}:{os.environ['PATH']}", **environment
        )

    plant(tmp_path / "fakes" / "systemctl", "#!/bin/sh\n")
    # as `sudo ./install.sh` sees it, where root called sudo
    plant(
        tmp_path / "fakes" / "id",
        '#!/bin/sh\ncase $* in "-u toor" | "-u root" | -u) echo 0 ;; '
        '"-u kiosk") echo 1000 ;; -un) echo root ;; *) exit 1 ;; esac\n',
    )
    for file in (tmp_path / "fakes").iterdir():
        file.chmod(0o755)
    shutil.move(folder, tmp_path / "edge")
    folder = tmp_path / "edge"
    for arguments, environment in (
        (["--service"], {"SUDO_USER": ""}),
        (["--service"], {"SUDO_USER": "root"}),
        (["--service-user", "toor"], {"SUDO_USER": "kiosk"}),
    ):
        result = check(*arguments, **environment)
        assert result.returncode == 2
        assert "it never runs as root; say --service-user NAME" in result.stderr
    assert "there is no user nobody-here" in check("--service-user=nobody-here").stderr
    assert "systemd takes no user of the name a|b" in check("--service-user", "a|b").stderr
    assert check("--service", SUDO_USER="kiosk").returncode == 0
    assert check("--service-user", "kiosk", SUDO_USER="root").returncode == 0


def test_the_unit_is_hardened(folder, tmp_path):
    lines = (folder / "edgefel.service").read_text().splitlines()
    assert [line for line in lines if line.startswith(("User=", "DynamicUser="))] == ["User=edgefel"]
    # a prefix of + or ! would run a command with full privileges
    assert [line for line in lines if line.startswith("Exec")] == [
        "ExecStartPre=/opt/edgefel/run.sh --prepare",
        "ExecStart=/opt/edgefel/run.sh $EDGEFEL_ARGUMENTS",
    ]
    for needed in (
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "RestrictNamespaces=yes",
    ):
        assert needed in lines
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    unit = shutil.copy(folder / "edgefel.service", tmp_path / "edgefel.service")
    # tenths; cameras, the GPU and streams of the network need what is left open
    command = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=35", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in result.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert result.returncode == 0, result.stdout[-200:] + result.stderr


def pretend_installed(folder: Path, *, engines: bool) -> None:
    """A stand-in for the environment: `edgefel` prints its arguments, `python` says whether engines can run."""
    place = folder / "venv" / "bin"
    place.mkdir(parents=True)
    (place / "edgefel").write_text('#!/bin/sh\nfor word in "$@"; do printf "<%s>" "$word"; done; echo\n')
    answer = "exit 0" if engines else "echo no NVIDIA GPU is found here; exit 1"
    (place / "python").write_text(f"#!/bin/sh\n{answer}\n")
    for file in place.iterdir():
        file.chmod(0o755)


def run(folder: Path, *arguments: str, code: int = 0):
    environment = os.environ | {"PYTHON": sys.executable}
    command = [str(folder / "run.sh"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment)
    assert result.returncode == code, result.stderr
    return result


def test_run_without_a_gpu(folder):
    pretend_installed(folder, engines=False)
    result = run(folder)
    assert result.stdout == f"<run><{folder}/model><--precision><fp32><--source><0>\n"
    assert "no TensorRT engine: no NVIDIA GPU is found here" in result.stderr
    assert "<engine>" not in result.stderr


def test_run_builds_the_engine_first_and_says_so_on_stderr(folder):
    pretend_installed(folder, engines=True)
    result = run(folder, "--json", "--source", "my clip.mp4")
    assert result.stdout == f"<run><{folder}/model><--json><--source><my clip.mp4><--precision><fp16>\n"
    assert f"<engine><{folder}/model><--precision><fp16>" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "ran", "built"),
    [
        (("--precision", "int8+fp16"), "<--precision><int8+fp16><--source><0>", "<int8>"),
        (("--precision=fp32",), "<--precision=fp32><--source><0>", "<fp32>"),
        (("--backend", "onnxruntime"), "<--backend><onnxruntime><--precision><fp32><--source><0>", None),
        (
            ("--backend=onnxruntime-cuda",),
            "<--backend=onnxruntime-cuda><--precision><fp16><--source><0>",
            None,
        ),
        (("--source=csi",), "<--source=csi><--precision><fp16>", "<fp16>"),
    ],
)
def test_what_the_user_gives_is_kept(folder, arguments, ran, built):
    pretend_installed(folder, engines=True)
    result = run(folder, *arguments)
    assert result.stdout == f"<run><{folder}/model>{ran}\n"
    if built is None:
        assert "<engine>" not in result.stderr
    else:
        assert f"<engine><{folder}/model><--precision>{built}" in result.stderr


def test_prepare_runs_nothing(folder):
    pretend_installed(folder, engines=True)
    result = run(folder, "--prepare")
    assert result.stdout == ""
    assert "<engine>" in result.stderr


def test_the_precision_of_the_installation_is_used(folder):
    pretend_installed(folder, engines=True)
    (folder / "local.env").write_text("GPU_PRECISION=int8+fp16\nCPU_PRECISION=int8+fp16\n")
    assert "<--precision><int8+fp16>" in run(folder).stdout


def test_run_looks_at_the_files_first(folder):
    pretend_installed(folder, engines=False)
    (folder / "model" / "model.int8.onnx").write_bytes(b"another one")
    # a person's own things lie beside it
    plant(folder / "labelled.jsonl")
    result = run(folder, code=2)
    assert result.stdout == ""
    assert "'model/model.int8.onnx' is not what was packed" in result.stderr


def test_settings_are_read_and_not_run(folder):
    pretend_installed(folder, engines=False)
    (folder / "local.env").write_text("touch pwned\nCPU_PRECISION=fp32\nCPU_PRECISION=$(touch pwned)\n")
    assert "<--precision><fp32>" in run(folder).stdout
    assert not list(folder.rglob("pwned"))


def test_run_before_install_says_what_to_do(folder):
    result = run(folder, code=2)
    assert f"run {folder}/install.sh first" in result.stderr


def test_systemd_accepts_the_unit(folder, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    home = tmp_path / "edgefel"
    shutil.copytree(folder, home)
    # what install.sh --service puts in
    text = (home / "edgefel.service").read_text().replace("/opt/edgefel", str(home))
    assert "\nUser=edgefel\n" in text
    unit = tmp_path / "edgefel.service"
    unit.write_text(text.replace("\nUser=edgefel\n", "\nUser=root\n"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    if "Failed to initialize manager" in result.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {result.stderr.strip()}")
    assert (result.returncode, result.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("[Install]", "Hardening=yes\n[Install]"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "Hardening" in result.stderr
