"""A real tritonserver on this machine, from the environment that `tools/ci/tritonserver.sh` makes.

It has the Python backend alone: `for_python` puts the network of a repository into a Python model and leaves the
rest as edgefel wrote it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

MAKER = Path(__file__).parents[1] / "tools" / "ci" / "tritonserver.sh"
NETWORK = Path(__file__).with_name("tritonserver_network.py")
Tensors = dict[str, np.ndarray]
TYPES = {"uint8": "UINT8", "float32": "FP32", "object": "BYTES"}


def executable() -> Path:
    """Skips the test where the environment has not been made."""
    bash = shutil.which("bash")
    where = (
        subprocess.run([bash, MAKER, "--where"], capture_output=True, text=True, check=False)
        if bash
        else None
    )
    server = Path(where.stdout.strip()) / "bin" / "tritonserver" if where and where.returncode == 0 else None
    if server is None or not server.is_file():
        pytest.skip("no tritonserver; make its environment with tools/ci/tritonserver.sh")
    return server


def for_python(repository: Path) -> Path:
    """Replaces the backend of the repository's networks, here and in nothing else: their files, tensors, batching and
    warm-up stay."""
    for network in repository.glob("*/1/model.onnx"):
        edit(
            network.parents[1],
            r'platform: "onnxruntime_onnx"\ndefault_model_filename: "model.onnx"',
            'backend: "python"',
        )
        shutil.copyfile(NETWORK, network.with_name("model.py"))
    return repository


def edit(model: Path, old: str, new: str) -> None:
    """Replaces the first match of the pattern `old` in a model's configuration."""
    path = model / "config.pbtxt"
    text, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1, f"{path} has no {old}"
    path.write_text(text)


class TritonServer:
    """Serves repositories until `close`. client: of gRPC. A model that cannot be loaded is not ready; see `said`."""

    def __init__(self, repositories: Sequence[Path], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [executable(), *(f"--model-repository={folder}" for folder in repositories)]
        command += [
            f"--grpc-port={port}",
            "--grpc-address=127.0.0.1",
            "--allow-http=false",
            "--allow-metrics=false",
        ]
        # names the shared memory of its processes after the port: two servers may run at a time
        command += [f"--backend-config=python,shm-region-prefix-name=edgefel_{port}_"]
        command += ["--exit-on-error=false", "--strict-readiness=false", "--disable-auto-complete-config"]
        self.log = log
        # its models have packages of their own, not those of this process
        own = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        own |= {"OMP_NUM_THREADS": "1"}
        own.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=own
            )
        self.client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
        deadline = time.monotonic() + 120
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"tritonserver is not ready:\n{self.said()}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return self.client.is_server_ready()
        except grpc.InferenceServerException:  # it does not listen yet
            return False

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        self.client.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def ready(self) -> set[str]:
        """Names of the models that are served."""
        return {
            model.name for model in self.client.get_model_repository_index().models if model.state == "READY"
        }

    def start(self, model: str, tensors: Tensors) -> Future[grpc.InferResult]:
        """A request that is answered later. Its result raises InferenceServerException with the server's message."""
        done: Future[grpc.InferResult] = Future()

        def answered(result: grpc.InferResult | None, error: Exception | None) -> None:
            done.set_exception(error) if error is not None else done.set_result(result)

        self.client.async_infer(model, inputs(tensors), answered, client_timeout=60)
        return done

    def ask(self, model: str, tensors: Tensors) -> Tensors:
        """All outputs."""
        return outputs(self.start(model, tensors).result())

    def ask_together(self, model: str, requests: Sequence[tuple[Tensors, Any]]) -> list[tuple[Tensors, Any]]:
        """The outputs of requests that are all sent before the first answer is read, each beside what comes with it."""
        waiting = [(self.start(model, tensors), what) for tensors, what in requests]
        return [(outputs(one.result()), what) for one, what in waiting]


def inputs(tensors: Tensors) -> list[grpc.InferInput]:
    made = []
    for name, values in tensors.items():
        made.append(grpc.InferInput(name, list(values.shape), TYPES[str(values.dtype)]))
        made[-1].set_data_from_numpy(values)
    return made


def outputs(result: grpc.InferResult) -> Tensors:
    return {tensor.name: result.as_numpy(tensor.name) for tensor in result.get_response().outputs}
