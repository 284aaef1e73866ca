"""What the shell completes, what that imports, and the printed scripts in real shells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.cli.completion import SHELLS
from edgefel.cli.main import COMMANDS, main
from edgefel.cli.params import PRECISIONS
from edgefel.models.registry import list_models

FILE = [("file", "")]


def complete(line: str) -> list[tuple[str, str]]:
    """Type and value of what is proposed for the last word of a line, which ends with a space for an empty word."""
    *words, incomplete = line.split(" ")
    found = ShellComplete(main, {}, "edgefel", "_EDGEFEL_COMPLETE").get_completions(words, incomplete)
    return [(item.type, item.value) for item in found]


def names(line: str) -> list[str]:
    return [value for kind, value in complete(line) if kind == "plain"]


def test_commands_and_their_help():
    assert names("") == list(COMMANDS)
    assert names("ex") == ["export"]
    assert names("detector ") == ["engine", "get", "quantize"]
    assert names("bench com") == ["compare"]
    (item,) = ShellComplete(main, {}, "edgefel", "").get_completions([], "parity")
    assert item.help == COMMANDS["parity"]


def test_options():
    assert names("predict --no-d") == ["--no-detect"]
    assert "--help" in names("data synth --")
    assert names("--ver") == ["--version"]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "predict ",
            "run ",
            "serve ",
            "serve --tls-cert ",
            "evaluate ",
            "export runs/nano -o ",
            "parity bundle --data ",
            "import a.pth ",
        ),
        *(
            "train --data ",
            "train --teacher ",
            "train --init-from ",
            "train --config ",
            "bench diff a.jsonl ",
        ),
        *("run --source cl", "bench roofline ./bun", "bench compare run", "kernels compile --model runs/"),
    ],
)
def test_files(line):
    assert [kind for kind, _ in complete(line)] == ["file"]


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        *((f"{command} ", list_models()) for command in ("models", "bench roofline", "bench compare")),
        *((f"{command} --model ", list_models()) for command in ("train", "bench train", "bench data")),
        ("kernels compile --model arbex-s", ["arbex-small"]),
        ("models arbex poster-v2-", ["poster-v2-small", "poster-v2-nano"]),
        ("ablate ", list(EXPERIMENTS)),
        ("train --layout aff", ["affectnet", "affectnet-7", "aff-wild2", "aff-wild2-7"]),
        ("data inspect faces --layout raf", ["raf-db"]),
        ("import a.pth --layout ap", ["apvit"]),
        *((f"{command} --source c", ["csi"]) for command in ("run", "serve")),
        ("run --precision int8", ["int8", "int8+fp16"]),
        ("pack bundle --precision fp32,i", ["fp32,int8", "fp32,int8+fp16"]),
        (
            "pack bundle --precision fp16,int8,",
            [f"fp16,int8,{name}" for name in PRECISIONS if name not in ("fp16", "int8")],
        ),
        ("bench latency --backend openvino,tens", ["openvino,tensorrt"]),
        ("bench train --precision b", ["bf16"]),
    ],
)
def test_names(line, proposed):
    assert names(line) == proposed


def test_any_other_text_is_still_accepted(monkeypatch):
    from edgefel.cli.models import command

    result = CliRunner().invoke(command, ["apvit+resizer", "--json"])
    assert [row["name"] for row in json.loads(result.output)] == ["apvit+resizer"]


LINES = (
    "",
    "train --",
    "train --model ",
    "ablate ",
    "data sheet faces --layout ",
    "run --source ",
)
# what completion imports beyond click; NumPy and OpenCV alone would take longer than a user waits
RUN = """
import json, sys
from click.shell_completion import ShellComplete
from edgefel.cli.main import COMMANDS, main
heavy, lines = map(json.loads, sys.argv[1:])
for line in lines:
    *words, incomplete = line.split(" ")
    assert ShellComplete(main, {}, "edgefel", "").get_completions(words, incomplete), line
    found = sorted({*heavy} & {*sys.modules})
    assert not found, (line, found)
    if not line:
        found = [name for name in COMMANDS if f"edgefel.cli.{name}" in sys.modules]
        assert not found, found
"""


def test_nothing_heavy_is_imported():
    heavy = ("torch", "numpy", "cv2", "onnxruntime", "rich", "matplotlib", "scipy", "yaml")
    command = [sys.executable, "-c", RUN, json.dumps(heavy), json.dumps(LINES)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_command_and_its_variable(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_EDGEFEL_COMPLETE={shell}_complete" in result.stdout


def test_another_shell_is_refused():
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.output


# The scripts in their shells. `edgefel` is this source's, whatever is installed.
@pytest.fixture
def in_shell(tmp_path):
    command = tmp_path / "bin" / "edgefel"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'edgefel'\nfrom edgefel.cli.main import main\nmain()\n"
    )
    command.chmod(0o755)
    (tmp_path / "photo.jpg").touch()
    environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def run(shell: str, code: str) -> list[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"no {shell} here")
        arguments = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
        result = subprocess.run(
            [shell, *arguments, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    return run


def test_in_bash(in_shell):
    code = """
    source <(edgefel completion bash)
    complete -p edgefel
    COMP_WORDS=(edgefel train --model arbex-) COMP_CWORD=3
    _edgefel_completion edgefel
    echo "${COMPREPLY[@]}"
    """
    *registered, first, second = in_shell("bash", code)
    assert registered == ["complete", "-o", "nosort", "-F", "_edgefel_completion", "edgefel"]
    assert [first, second] == ["arbex-small", "arbex-nano"]


def test_in_fish(in_shell):
    asked = ("edgefel train --model arbex-", "edgefel predict ph")
    code = "edgefel completion fish | source; " + "; ".join(f"complete -C '{line}'" for line in asked)
    assert sorted(in_shell("fish", code)) == ["arbex-nano", "arbex-small", "photo.jpg"]


def test_in_zsh(in_shell):
    code = """
    autoload -Uz compinit && compinit -u -D
    source <(edgefel completion zsh)
    echo $_comps[edgefel]
    compadd() { echo ${(P)@[-1]} }
    words=(edgefel train --model arbex-) CURRENT=4
    _edgefel_completion
    """
    registered, *proposed = in_shell("zsh", code)
    assert registered == "_edgefel_completion"
    assert [word for word in proposed if word.startswith("arbex")] == ["arbex-small", "arbex-nano"]


def test_the_files_of_a_folder_are_left_to_the_shell(in_shell):
    assert complete("predict ") == FILE
    code = """
    source <(edgefel completion bash)
    compopt() { echo compopt $*; }
    COMP_WORDS=(edgefel predict ph) COMP_CWORD=2
    _edgefel_completion edgefel
    """
    assert in_shell("bash", code) == ["compopt", "-o", "default"]
