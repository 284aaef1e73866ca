"""No command opens the network unasked, neither in Python nor in C++: system calls are watched, of children too."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import shallow
import torch
from published_weights import state_dict
from yunet_like import yunet_like

ROOT = Path(__file__).parent.parent
NANO = ROOT / "tests" / "bundles" / "nano-synthetic"

# one process runs them all: importing takes longer than working. {}: a folder of the test
RUN = """
import json, sys
from edgefel.bench import timer
from edgefel.bench.pick import pick
from edgefel.bench.roofline.cpu import measure_cpu
from edgefel.cli.main import main
timer.QUICK = timer.TimingPlan(warmup=1, settle_seconds=0, min_runs=1, seconds=0.01)
measure_cpu.__defaults__ = timer.QUICK, 1 << 20
pick.__defaults__ = None, timer.QUICK, *pick.__defaults__[2:]
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        if end.code not in (None, 0, 1):  # 1: a file failed its comparison, a measurement got worse
            sys.exit(f"{arguments}: exit code {end.code}")
"""
# the page and an answer are asked for from this machine, and the server is told to end
SERVE = """
import http.client, os, signal, socket, sys, threading, time
from edgefel.cli.main import main
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
found = []
def ask():
    while True:
        time.sleep(0.2)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/")
            break
        except ConnectionRefusedError:
            pass
    connection.getresponse().read()
    connection.request("POST", "/v1/faces", open(sys.argv[2], "rb").read(), {"Content-Type": "image/png"})
    found.append(connection.getresponse().status)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=ask, daemon=True).start()
try:
    main(["serve", sys.argv[1], "--port", str(port), "--backend", "onnxruntime"])
except SystemExit as end:
    found.append(end.code)
if found != [200, 0]:
    sys.exit(f"answer and exit code: {found}")
"""
ORT = ("--backend", "onnxruntime", "--quick", "--threads", "1")
BRIEF = ("--runs", "2", "--seconds", "0.01")
ON_A_DEVICE = [
    "--help",
    "doctor",
    f"doctor {NANO}",
    "data video -o {}/clip.mp4 --seconds 2 --fps 3 --size 320x240 --changes 0",
    "data synth -o {}/faces --count 70 --size 64 --subjects 10",
    f"predict {NANO} {{}}/clip.mp4 --save {{}}/labelled --backend onnxruntime",
    f"predict {NANO} {{}}/clip.mp4 --backend auto --json",
    f"run {NANO} --source {{}}/clip.mp4 --save {{}}/labelled.mkv --report {{}}/people.html --thumbnails --json",
    f"pack {NANO} -o {{}}/edge.tar --no-kernels",
    "pack {}/edge.tar --verify",
    f"pack {NANO} --triton-repository {{}}/triton --deepstream {{}}/deepstream",
    f"bench latency {NANO} {' '.join((*ORT, *BRIEF))} --no-memory -o {{}}/rows.jsonl",
    f"bench throughput {NANO} {' '.join(ORT)} --seconds 0.01 --concurrency 1",
    f"bench pick {NANO} --threads 1 --runs 2",
    "completion bash",
    "bench report {}/rows.jsonl -o {}/report.html",
    "bench diff {}/rows.jsonl {}/rows.jsonl",
    "data inspect {}/faces -o {}/inspected --workers 1",
    "data sheet {}/faces -o {}/sheet.png",
    "data prepare {}/faces -o {}/prepared --workers 1",
    f"label {NANO} {{}}/faces -o {{}}/labels --backend onnxruntime --workers 1",
]
WITH_TORCH = [
    "models",
    "data synth -o {}/faces --count 140 --size 64 --subjects 20 --workers 1",
    f"train --model apvit-nano+reliability {' '.join(shallow.APVIT)} --data {{}}/faces -o {{}}/run --max-steps 2 "
    "--batch-size 8 --quiet --accelerator cpu",
    "evaluate {}/run --data {}/faces -o {}/report --grid 1",
    "calibrate --data {}/faces -o {}/calibration.json --per-class 2",
    "export {}/run -o {}/bundle --fp32 --int8 --fp16 --data {}/faces --per-class 2 --parity-images 7 --overwrite",
    "parity {}/bundle --data {}/faces --images 7 --threads 1",
    "import {}/published.pth --layout poster-v2 --labels rafdb -o {}/imported",
    "bench compare {}/bundle --quick --runs 2 --backend onnxruntime,openvino --precision fp32 --no-memory",
    f"bench train --model arbex-nano --batch-sizes 2 --quick {' '.join(BRIEF)} --no-memory --accelerator cpu",
    f"bench data --data {{}}/faces --model arbex-nano --quick --workers 1 {' '.join(BRIEF)} --stages decode",
    "bench roofline {}/bundle --device cpu --threads 1",
    "bench profile {}/bundle --count --backend onnxruntime",
    "bench quantizers {}/bundle --data {}/faces --tool edgefel --images 7 --per-class 2 --quick -o {}/quantizers.jsonl",
    "ablate head --dry-run --data {}/faces -o {}/ablation",
    "detector quantize --data {}/faces --detector-model {}/yunet.onnx --precision fp16 --force",
]
# they compile for GPUs, or only call the commands above; one is there to open the network
LEFT_OUT = {"demo", "kernels compile", "engine", "bench kernels", "detector engine", "detector get"}


def watched(code: str, arguments: list[str], folder: Path) -> list[str]:
    """Runs Python under strace; the system calls that leave the machine, or ask a name server on it."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here; apt install strace")
    log, home = folder / "strace.txt", folder / "home"
    home.mkdir()
    # neither the user's consent files nor being in CI may decide
    environment = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
        if name in os.environ
    }
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "200", "-e", "trace=network", "-o", str(log)]
    result = subprocess.run(
        [*command, sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in result.stderr.lower() and result.returncode:
        pytest.skip(f"strace may not watch processes here: {result.stderr.splitlines()[0]}")
    assert result.returncode == 0, result.stdout + result.stderr
    calls = log.read_text(errors="replace").splitlines()
    return [call for call in calls if _leaves_the_machine(call)]


def _leaves_the_machine(call: str) -> bool:
    if "AF_INET" not in call or not re.search(r"\b(connect|bind|sendto|sendmsg|sendmmsg)\(", call):
        return False
    return "htons(53)" in call or not re.search(r'"(127\.[\d.]+|::1)"', call)


def commands(lines: list[str], folder: Path) -> list[list[str]]:
    return [line.format(*[folder] * line.count("{}")).split() for line in lines]


def test_the_watch_sees_what_opens_the_network(tmp_path):
    """Nothing is sent by these: a datagram socket only remembers the address, of a network kept for documentation."""
    code = (
        "import socket\n"
        "for address in ('192.0.2.1', 80), ('127.0.0.1', 53), ('127.0.0.1', 80):\n"
        "    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(address)\n"
    )
    found = watched(code, [], tmp_path)
    assert [("192.0.2.1" in call, "htons(53)" in call) for call in found] == [(True, False), (False, True)]


def test_commands_of_a_device(tmp_path):
    assert watched(RUN, [json.dumps(commands(ON_A_DEVICE, tmp_path))], tmp_path) == []
    # nor is anything left to be sent later: openvino_telemetry and ONNX Runtime keep their numbers there
    kept = {path.name for path in (tmp_path / "home").iterdir()}
    assert kept <= {"cache", ".cache", ".config"}


def test_a_broker_that_is_given_is_the_only_address(tmp_path):
    """paho binds the socket that connects to it to any address of this machine, without listening there."""
    lines = [
        "data video -o {}/clip.mp4 --seconds 1 --fps 3 --size 320x240 --changes 0",
        f"run {NANO} --source {{}}/clip.mp4 --frames 1 --json --mqtt mqtt://127.0.0.1:1/x",
    ]
    found = watched(RUN, [json.dumps(commands(lines, tmp_path))], tmp_path)
    assert found
    assert all(re.search(r'bind\(.*htons\(0\), sin_addr=inet_addr\("0\.0\.0\.0"\)', call) for call in found)
    calls = (tmp_path / "strace.txt").read_text(errors="replace")
    assert re.search(r'connect\(.*htons\(1\), sin_addr=inet_addr\("127\.0\.0\.1"\)', calls)


def test_serve_listens_on_this_machine_alone(tmp_path):
    image = tmp_path / "face.png"
    cv2.imwrite(str(image), np.full((200, 200, 3), 128, np.uint8))
    assert watched(SERVE, [str(NANO), str(image)], tmp_path) == []
    calls = (tmp_path / "strace.txt").read_text(errors="replace")
    assert re.search(r'bind\(.*sin_addr=inet_addr\("127\.0\.0\.1"\)', calls)
    assert re.search(r"accept4?\(", calls)


@pytest.mark.slow
def test_commands_with_torch(tmp_path):
    yunet_like(tmp_path / "yunet.onnx")
    torch.save({"state_dict": state_dict("poster_v2_7cls")[""]}, tmp_path / "published.pth")
    assert watched(RUN, [json.dumps(commands(WITH_TORCH, tmp_path))], tmp_path) == []


def test_every_command_is_watched():
    from edgefel.cli.lazy import LazyGroup
    from edgefel.cli.main import main

    every = set()
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        inside = command.list_commands(None) if hasattr(command, "list_commands") else [None]
        every |= {f"{name} {sub}" if sub else name for sub in inside}
    assert isinstance(main, LazyGroup)
    seen = {" ".join(line.split()[:2]) for line in ON_A_DEVICE + WITH_TORCH}
    seen |= {line.split()[0] for line in ON_A_DEVICE + WITH_TORCH} | {"serve"}
    assert every - seen == LEFT_OUT


def test_openvino_is_imported_in_one_place():
    """Whatever imports it otherwise loads its telemetry, which looks up an address at once."""
    found = set()
    for folder in ("edgefel", "bench", "calib", "export", "kernels", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] == "openvino" for name in names):
                    found.add(str(file))
    assert found == set()
