"""Makes tests/vectors/preprocessing: `python tests/vectors/preprocessing_vectors.py`.

Input images, their pixels after the resize, and the SHA-256 of the tensors. Only to be run again on purpose: what
it writes is what every model was trained and judged with.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from edgefel.data.preprocessing import Preprocessing

FOLDER = Path(__file__).parent / "preprocessing"
# name -> height and width of the image, and what is done to it
CASES: dict[str, tuple[tuple[int, int], Preprocessing]] = {
    "larger": ((97, 151), Preprocessing(32, 28)),
    "thrice": ((96, 96), Preprocessing(32, 28)),
    "smaller": ((19, 23), Preprocessing(32, 28)),
    "wider": ((21, 75), Preprocessing(32, 28)),
    "same": ((32, 32), Preprocessing(32, 28)),
    "stride": ((83, 71), Preprocessing(64, 56, 2)),
    "odd": ((50, 41), Preprocessing(33, 27, 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))),
}


def draw(height: int, width: int, seed: int) -> np.ndarray:
    """Ramps, edges and noise, uint8 RGB [height, width, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    ramps = np.stack([255 * rows // height, 255 * columns // width, 8 * (rows + columns) % 256], axis=2)
    noise = rng.integers(-40, 41, (height, width, 3))
    squares = 90 * ((rows // 7 + columns // 5) % 2)[..., None]
    return np.clip(ramps + noise + squares, 0, 255).astype(np.uint8)


def digest(values: np.ndarray) -> str:
    """SHA-256 of the bytes, in C order and little-endian."""
    return hashlib.sha256(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    golden = {}
    for seed, (name, (size, preprocessing)) in enumerate(CASES.items()):
        image = draw(*size, seed)
        resized = preprocessing.resize_image(image)
        for stem, pixels in ((name, image), (f"{name}.resized", resized)):
            cv2.imwrite(str(FOLDER / f"{stem}.png"), pixels[..., ::-1])
        golden[name] = {
            "size": size,
            "preprocessing": preprocessing.to_dict(),
            "image": digest(image),
            "resized": digest(resized),
            "tensor": digest(preprocessing.to_tensor(image)),
            "pixels": digest(preprocessing.pixel_batch([image])),
        }
    text = json.dumps({"opencv": cv2.__version__, "cases": golden}, indent=2)
    (FOLDER / "golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
