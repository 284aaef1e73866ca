"""The TensorRT backend on a real GPU: engines of the tiny model against ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from tiny_bundle import write_bundle

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.engine import EngineOptions, build_engine, load_tensorrt
from edgefel.runtime.backends.cuda import import_pycuda
from edgefel.runtime.engines import find_gpu
from edgefel.runtime.manifest import OUTPUT_NAMES, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session


def missing() -> str | None:
    """Why these tests cannot run here."""
    if find_gpu() is None:
        return "needs an NVIDIA GPU with its driver"
    try:
        load_tensorrt()
        import_pycuda()
    except EdgefelError as error:
        return str(error)
    return None


REASON = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module", params=[(1, 1, 4), (3, 3, 4)], ids=["from 1", "from 3"])
def bundle(request, tmp_path_factory):
    folder = write_bundle(tmp_path_factory.mktemp("engine") / "bundle")
    low, best, high = request.param
    path = folder / "model.fp32.engine"
    builder = build_engine(folder / "model.fp32.onnx", path, EngineOptions(low, best, high))
    file = describe_file(
        path, kind="engine", precision="fp32", builder={**builder, "source": "model.fp32.onnx"}
    )
    write_manifest(folder, read_manifest(folder).with_file(file))
    return folder


def random_batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 14, 14)).astype(np.float32)


def assert_alike(first, second) -> None:
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-3, err_msg=name)


@pytest.fixture
def reference(bundle):
    with Session.open(bundle, backend="onnxruntime") as session:
        yield session


def test_auto_takes_it_and_outputs_are_onnxruntimes(bundle, reference):
    with Session.open(bundle) as session:
        assert session.choice.why == "tensorrt"
        for count in (1, 3, 4, 11):
            for seed in range(4):  # plain, captured, replayed with other values
                batch = random_batch(count, seed)
                assert_alike(session.run(batch), reference.run(batch))
        assert session.notes == ()


def test_stages_are_timed(bundle):
    told: dict[str, float] = {}
    with Session.open(bundle) as session:
        session.warm_up(3)
        session.run(random_batch(1), told.__setitem__)
    assert list(told) == ["copy in", "gpu", "copy out"]
    assert all(0 < seconds < 1 for seconds in told.values())


def test_threads_and_sessions_share_the_gpu(bundle, reference):
    wrong = []
    with Session.open(bundle) as first, Session.open(bundle) as second:

        def work(session: Session, seed: int) -> None:
            batch = random_batch(1 + seed % 4, seed)
            expected = reference.run(batch).logits
            for _ in range(50):
                if not np.allclose(session.run(batch).logits, expected, atol=1e-3):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=((first, second)[i % 2], i)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_memory_comes_back(bundle):
    cuda = import_pycuda()
    context = cuda.Device(0).retain_primary_context()

    def free() -> int:
        context.push()
        try:
            return int(cuda.mem_get_info()[0])
        finally:
            cuda.Context.pop()

    Session.open(bundle).close()
    before = free()
    for _ in range(5):
        with Session.open(bundle) as session:
            session.warm_up(3, batches=(1, 2, 4))
    assert before - free() < 4 << 20


def test_torch_works_before_between_and_after(bundle):
    """In a process of its own: a broken context would take the other tests along."""
    pytest.importorskip("torch")
    code = (
        "import torch, numpy as np\n"
        "from edgefel.runtime.session import Session\n"
        "x = torch.ones(1000, device='cuda')\n"
        f"with Session.open({str(bundle)!r}) as session:\n"
        "    for _ in range(3):\n"
        "        session.run(np.ones((2, 3, 14, 14), np.float32))\n"
        "        assert (x * 2).sum().item() == 2000\n"
        "assert (torch.ones(1000, device='cuda') + x).sum().item() == 2000\n"
        "print('fine')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "fine"
