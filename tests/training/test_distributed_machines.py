"""Training on two machines by the torchrun line of docs/cluster.md: two network namespaces joined by a cable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from shallow import PYRAMID

from edgefel.training.loop import resume

ROOT = Path(__file__).parent.parent.parent
PORT = 29511


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def machines():
    """Names of two namespaces, each with one interface besides the loopback one: (name, address, interface)."""
    if shutil.which("ip") is None:
        pytest.skip("no ip here; apt install iproute2")
    number = os.getpid() % 10_000
    both = [(f"efa{number}", "10.77.0.1", f"va{number}"), (f"efb{number}", "10.77.0.2", f"vb{number}")]
    try:
        for name, _, _ in both:
            ip("netns", "add", name)
        ip("link", "add", both[0][2], "type", "veth", "peer", "name", both[1][2])
        for name, address, cable in both:
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(both)
        pytest.skip(f"no network namespaces here ({error.stderr.strip()})")
    yield both
    _remove(both)


def _remove(both) -> None:
    for name, _, _ in both:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def torchrun_line() -> str:
    """The line of docs/cluster.md, for the first machine."""
    lines = (ROOT / "docs" / "cluster.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("torchrun --nnodes 2 --node-rank 0 ")]
    return line


@pytest.mark.slow
def test_two_machines_train_and_one_goes_on(machines, faces_folder, tmp_path):
    """The folder of the run is shared. Afterwards one process resumes what two have begun."""
    run = tmp_path / "run"
    flags = ["--model", "arbex-nano", *PYRAMID]
    options = ["--max-steps", "2", "--batch-size", "8", "--accelerator", "cpu", "--workers", "0", "--quiet"]
    head, _, rest = torchrun_line().partition(" -m edgefel.cli.main ")
    processes = []
    for rank, (name, _, cable) in enumerate(machines):
        words = head.replace("--node-rank 0", f"--node-rank {rank}").split()[1:]
        values = {"--nproc-per-node": "1", "--master-addr": machines[0][1], "--master-port": str(PORT)}
        for option, value in values.items():
            words[words.index(option) + 1] = value
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", *words]
        command += ["-m", "edgefel.cli.main", rest.split()[0], *flags, "--data", str(faces_folder)]
        command += ["-o", str(run), *options]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()[-3000:]
    weights = load_file(run / "checkpoints/step-000002/model.safetensors")
    assert resume(run, {"max_steps": 3}, quiet=True).step == 3
    after = load_file(run / "checkpoints/step-000003/model.safetensors")
    assert after.keys() == weights.keys()
    assert any(not (after[key] == weights[key]).all() for key in after)
