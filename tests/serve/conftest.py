"""A running service over the tiny bundle, whose faces are bright squares, and a client of it without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")

from starlette.testclient import TestClient
from streams import GREEN, RED, SquareDetector, scene
from tiny_bundle import write_bundle

from edgefel.runtime.model import Model
from edgefel.runtime.session import Session
from edgefel.runtime.stream.pipeline import StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.access import Door
from edgefel.serve.app import make_app
from edgefel.serve.bodies import Bodies
from edgefel.serve.engine import Engine
from edgefel.serve.limits import Limits
from edgefel.serve.service import Service
from edgefel.serve.worker import Worker

UNLIMITED = {"rate": 0.0}


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder: Path = write_bundle(tmp_path_factory.mktemp("serve") / "bundle")
    with Session.open(folder, backend="onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture
def engine(session: Session) -> Engine:
    return Engine(Model(session, SquareDetector), StreamOptions(), Limits(**UNLIMITED), Telemetry())


@pytest.fixture
def make_client(session: Session) -> Iterator[Callable[..., TestClient]]:
    """A client of a new service. token, detector, live: of the service; host, allowed: of `make_app`; limits."""
    workers: list[Worker] = []

    def make(
        token: str | None = None,
        detector: Any = None,
        live: Any = None,
        host: str = "127.0.0.1",
        allowed: tuple[str, ...] = (),
        base_url: str = "http://127.0.0.1:8000",
        **limits: Any,
    ) -> TestClient:
        held = Limits(**(UNLIMITED | limits))
        telemetry = Telemetry()
        model = Model(session, lambda: detector or SquareDetector())
        engine = Engine(model, StreamOptions(), held, telemetry)
        worker = Worker(engine.label, held.waiting, held.answer)
        worker.start()
        workers.append(worker)
        service = Service(
            engine, worker, Door(token), held, telemetry, Bodies(held), "edgefel-8000", live=live
        )
        # an exception of the server is an answer 500, which a test sees as such
        return TestClient(make_app(service, host, allowed), base_url=base_url, raise_server_exceptions=False)

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


def jpeg(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    """RGB as an encoded image."""
    done, data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]))
    assert done
    return data.tobytes()


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A JPEG with two faces."""
    return jpeg(scene([(20, 20, 60, RED), (20, 120, 60, GREEN)]))
