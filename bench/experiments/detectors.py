"""How much faster YuNet is than the Haar cascade, alone and from an image to its labels.

    python -m edgefel.bench.experiments.detectors --yunet yunet.onnx > docs/results/detectors.json

Images of 640x480 with 1, 3 and 6 faces: copies of matplotlib's grace_hopper.jpg (public domain) on scikit-learn's
china.jpg (CC BY 2.0), since the cascade takes longer on a texture than on a plain wall. Detection: boxes, and what
finds eyes. Labels: detection, alignment and the network of a bundle by the backend that is taken by default, as
`edgefel predict` does it; from a bundle with a framing, turned faces are brought level too. Everything on one thread,
in turn; each detector must find the faces and no others before it is timed. Times are the processor's, which on one
thread are those of a machine with nothing else to do. YuNet by OpenCV is `cv2.FaceDetectorYN`, all else the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import matplotlib.cbook
import numpy as np
import onnxruntime
from sklearn.datasets import load_sample_image

from edgefel.bench.command import one_thread, run_bench
from edgefel.bench.timer import Timing, TimingPlan, cpu_stopwatch, measure, opencv_threads, ratio_to
from edgefel.data.images import read_rgb
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.runtime.faces import FaceDetector, HaarDetector
from edgefel.runtime.labelling import label_faces
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import FOLDER
from edgefel.runtime.telemetry.sysfs import cpu_name
from edgefel.runtime.yunet import Rows, YuNetDetector
from edgefel.text import counted

SIZE = (640, 480)
HAAR = "haar"
OPENCV = "yunet, opencv"
# faces -> width of each photograph, and its places from the left and from above
PLACES = {
    1: (200, ((220, 120),)),
    3: (150, tuple((x, 150) for x in (30, 235, 440))),
    6: (110, tuple((x, y) for y in (60, 280) for x in (30, 235, 440))),
}


class OpenCvYuNet(YuNetDetector):
    """YuNet with OpenCV's own decoding and inference."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, threads=1)
        self._opencv = cv2.FaceDetectorYN.create(str(model), "", (320, 320), self._score)

    def rows(self, image: Image) -> Rows:
        """As OpenCV finds them."""
        self._opencv.setInputSize((image.shape[1], image.shape[0]))
        found: Any
        _, found = self._opencv.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return np.zeros((0, 15), np.float32) if found is None else np.asarray(found)


def scene(faces: int) -> Image:
    """uint8 RGB [480, 640, 3] with that many copies of the photograph, every second one mirrored."""
    portrait = read_rgb(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    image = cv2.resize(load_sample_image("china.jpg"), SIZE, interpolation=cv2.INTER_AREA)
    width, places = PLACES[faces]
    height = round(width * portrait.shape[0] / portrait.shape[1])
    small = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA)
    for number, (x, y) in enumerate(places):
        image[y : y + height, x : x + width] = small[: SIZE[1] - y, :: -1 if number % 2 else 1]
    return np.asarray(image, dtype=np.uint8)


def detectors(yunet: Path) -> dict[str, FaceDetector]:
    """Haar as it is by default, and YuNet by everything that runs it on this CPU."""
    found: dict[str, FaceDetector] = {HAAR: HaarDetector(), OPENCV: OpenCvYuNet(yunet)}
    for backend in ("onnxruntime", "openvino"):
        found[f"yunet, {backend}"] = YuNetDetector(yunet, backend=backend, threads=1)
    return found


def timed(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Any]:
    """Medians, and how many times as fast as Haar each is."""
    timings: dict[str, Timing] = measure(calls, TimingPlan.exactly(runs), cpu_stopwatch(time.process_time_ns))
    return {
        "ms_p50": {name: timing.p50 for name, timing in timings.items()},
        "times_as_fast": {name: ratio_to(timings, HAAR, name) for name in calls if name != HAAR},
    }


def document(yunet: Path, bundle: Path, runs: int) -> dict[str, Any]:
    """A row for each number of faces."""
    found, rows = detectors(yunet), []
    with opencv_threads(1), Session.open(bundle, "fp32", threads=1, advise=False) as session:
        for faces in PLACES:
            image = scene(faces)
            session.warm_up(batches=(faces,))
            for name, detector in found.items():
                if (count := len(detector(image))) != faces:
                    raise EdgefelError(f"{name} finds {count} of {counted(faces, 'face')}; nothing is timed")
            detection = {name: partial(detector, image) for name, detector in found.items()}
            labels = {
                name: partial(label_faces, image, detector, session) for name, detector in found.items()
            }
            rows.append({"faces": faces, "detection": timed(detection, runs), "labels": timed(labels, runs)})
            print(counted(faces, "face"), file=sys.stderr)
        network = f"{session.manifest.model.name} {session.file.precision}, {session.backend}"
    command = f"python -m edgefel.bench.experiments.detectors --yunet {yunet.name}"
    packages = {"onnxruntime": onnxruntime, "openvino": import_quietly("openvino"), "opencv": cv2}
    size = "{}x{}".format(*SIZE)
    return one_thread("detectors", command, **packages) | {
        "cpu": cpu_name(),
        "size": size,
        "runs": runs,
        "network": network,
        "rows": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--bundle", type=Path, default=FOLDER, help="whose network labels [edgefel's]")
    parser.add_argument("--runs", type=int, default=60, help="timed runs of each [%(default)s]")
    sys.exit(run_bench(parser, document))
