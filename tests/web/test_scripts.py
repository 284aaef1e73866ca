"""What the page computes, each script beside the part of the runtime that it repeats, in Chromium."""

from __future__ import annotations

import base64
import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Preprocessing
from edgefel.runtime import alignment, eyes, quality, searching, yunet
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.levelling import LevelDetector
from edgefel.web.contract import box_dict

# Calls of a script's functions. Among the arguments { image: base64, width, height } and { values: base64 } are
# decoded, and "THE IMAGE" is an image that all have; images and arrays of numbers in the results are encoded.
CALL = """async ([script, calls, shared]) => {
    const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const decoded = (value) => {
        if (value === "THE IMAGE") return image;
        if (value?.image) return { ...value, image: undefined, data: new Uint8ClampedArray(bytes(value.image).buffer) };
        if (Array.isArray(value)) return value.map(decoded);
        if (value?.values) return new Float32Array(bytes(value.values).buffer);
        if (value && typeof value === "object") {
            return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, decoded(one)]));
        }
        return value;
    };
    const encoded = (value) => {
        if (!ArrayBuffer.isView(value)) return value?.data ? { ...value, data: encoded(value.data) } : value;
        let text = "";
        for (const byte of new Uint8Array(value.buffer)) text += String.fromCharCode(byte);
        return { base64: btoa(text) };
    };
    const image = decoded(shared);
    const module = await import(`/runtime/${script}.js`);
    const results = [];
    for (const [name, ...given] of calls) results.push(encoded(await module[name](...given.map(decoded))));
    return results;
}"""


@pytest.fixture
def call(page: Any) -> Any:
    """Calls functions of a script: call("pixels", ["grey", image], ...) -> their results."""

    def calls(script: str, *named: list[Any], image: np.ndarray | None = None) -> list[Any]:
        results = page.evaluate(CALL, [script, named, None if image is None else shown(image)])
        assert len(results) == len(named)
        return results

    return calls


def shown(image: np.ndarray) -> dict[str, Any]:
    """RGB [H, W, 3] for a script."""
    height, width = image.shape[:2]
    rgba = np.dstack([image, np.full((height, width), 255, np.uint8)])
    return {"image": base64.b64encode(rgba.tobytes()).decode(), "width": width, "height": height}


def read(result: dict[str, Any]) -> np.ndarray:
    """An image of a script as RGB."""
    data = np.frombuffer(base64.b64decode(result["data"]["base64"]), np.uint8)
    return data.reshape(result["height"], result["width"], 4)[:, :, :3]


def numbers(result: dict[str, Any], kind: type = np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(result["base64"]), kind)


def random_image(rng: np.random.Generator, height: int, width: int, smooth: float = 0.0) -> np.ndarray:
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if smooth:
        image = cv2.normalize(cv2.GaussianBlur(image, (0, 0), smooth), None, 0, 255, cv2.NORM_MINMAX)
    return image


def random_box(rng: np.random.Generator, image: np.ndarray, fit: bool = True) -> FaceBox:
    """A face somewhere in the image or over its border. fit: with eyes where a face has them, turned or level."""
    height, width = image.shape[:2]
    side = int(rng.integers(20, 220))
    x, y = (int(rng.integers(-side // 3, most - side // 2)) for most in (width, height))
    if rng.random() < 0.15:
        return FaceBox(x, y, side)
    angle = 0.0 if rng.random() < 0.2 else rng.normal(0, 0.4)
    apart, down = (rng.normal(0.35, 0.03), rng.normal(0.4, 0.03)) if fit else (rng.uniform(0.1, 0.9), 0.7)
    middle = np.array([x + side / 2, y + down * side])
    reach = apart * side / 2 * np.array([math.cos(angle), math.sin(angle)])
    ends = (tuple(map(float, middle - reach)), tuple(map(float, middle + reach)))
    return FaceBox(x, y, side, eyes=ends)


@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((128, 128), (48, 48)),
        ((96, 96), (48, 48)),  # whole numbers of pixels
        ((144, 144), (48, 48)),
        ((101, 77), (33, 21)),
    ],
)
def test_shrinking_by_area(call, size, to):
    image = random_image(np.random.default_rng(0), *size)
    (result,) = call("pixels", ["resizeArea", shown(image), to[1], to[0]])
    np.testing.assert_array_equal(read(result), cv2.resize(image, to[::-1], interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("size", [(128, 128), (97, 97), (96, 96), (224, 224), (101, 77)])
def test_reducing_a_crop_to_the_detail_of_training(call, size):
    image = random_image(np.random.default_rng(0), *size)
    (result,) = call("pixels", ["areaMean", shown(image), 48, 48])
    np.testing.assert_array_equal(read(result), Preprocessing(48, 48).resize_image(image))


@pytest.mark.parametrize("size", [(561, 1000), (1000, 700), (33, 1920), (4, 2000)])
def test_shrinking_an_image_for_the_detector(call, size):
    image = random_image(np.random.default_rng(1), *size, smooth=2)
    factor = searching.LONGEST_SIDE / max(size)
    expected = searching.scaled(image, factor)
    shape = expected.shape[1], expected.shape[0]
    scale = (1 / factor, 1 / factor) if round(factor * min(size)) else ()
    (result,) = call("pixels", ["resizeArea", shown(image), *shape, *scale])
    np.testing.assert_array_equal(read(result), expected)


@pytest.mark.parametrize(
    "size", [(48, 48), (33, 21), (5, 3), (1, 1), (31, 200), (300, 300), (256, 256), (129, 64)]
)
def test_linear_resizing(call, size):
    image = random_image(np.random.default_rng(2), *size)
    (result,) = call("pixels", ["resizeLinear", shown(image), 128, 128])
    np.testing.assert_array_equal(read(result), cv2.resize(image, (128, 128), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize("border", [None, 128])
@pytest.mark.parametrize("size", [(60, 83), (200, 180), (7, 5)])
def test_warping(call, size, border):
    rng = np.random.default_rng(3)
    image = random_image(rng, *size)
    how = {"borderMode": cv2.BORDER_REPLICATE} if border is None else {"borderValue": (border,) * 3}
    calls, expected = [], []
    for degrees, side in itertools.product((0.0, 7.3, -33.0, 60.0), (61, 128)):
        step = max(size) / side * 1.2
        cos, sin = step * math.cos(math.radians(degrees)), step * math.sin(math.radians(degrees))
        matrix = np.array([[cos, -sin, rng.uniform(-9, 9)], [sin, cos, rng.uniform(-9, 9)]])
        calls.append(["warp", "THE IMAGE", matrix.ravel().tolist(), side, side, border])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected.append(cv2.warpAffine(image, matrix, (side, side), flags=flags, **how))
    for result, wanted in zip(call("pixels", *calls, image=image), expected, strict=True):
        np.testing.assert_array_equal(read(result), wanted)


CONTRACTS = [
    Preprocessing(resize=128, crop=112, colour="grey", detail=48),
    Preprocessing(resize=64, crop=56, stride=2),
    Preprocessing(resize=63, crop=50, resample="antialias", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.5)),
    Preprocessing(resize=72, crop=72, resample="bilinear", colour="grey"),
    Preprocessing(resize=60, crop=48, resample="antialias", detail=31),
]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.summary)
def test_preprocessing(call, contract):
    rng = np.random.default_rng(4)
    sizes = [(128, 128), (20, 20), (97, 97), (64, 64), (200, 200), (31, 31), (90, 61)]
    crops = [random_image(rng, *size, smooth=index % 2) for index, size in enumerate(sizes)]
    given = [shown(crop) for crop in crops], contract.to_dict()
    floats, pixels = call("preprocessing", ["floatBatch", *given], ["pixelBatch", *given])
    batch = contract.batch(crops)
    np.testing.assert_array_equal(numbers(floats).reshape(batch.shape), batch)
    expected = contract.pixel_batch(crops)
    np.testing.assert_array_equal(numbers(pixels, np.uint8).reshape(expected.shape), expected)


FRAMING = Framing(0.3827, 0.3893, 0.0272, 0.0542, 110)


@pytest.mark.parametrize("framing", [None, FRAMING], ids=["boxes", "framing"])
def test_faces_are_cut_out_alike(call, framing):
    rng = np.random.default_rng(5)
    image = random_image(rng, 240, 320, smooth=1)
    boxes = [random_box(rng, image, fit=index % 5 > 0) for index in range(60)]
    boxes.append(FaceBox(-500, -400, 90, eyes=((-470.0, -365.0), (-437.0, -360.0))))  # outside of the image
    how = None if framing is None else framing.to_dict()
    crops = call(
        "alignment", *(["align", "THE IMAGE", box_dict(box), 128, how] for box in boxes), image=image
    )
    for box, result in zip(boxes, crops, strict=True):
        np.testing.assert_array_equal(
            read(result), alignment.align(image, box, 128, framing), err_msg=str(box)
        )
    judged = (["misframed", "THE IMAGE", box_dict(box), FRAMING.to_dict()] for box in boxes)
    reasons = call("alignment", *judged, image=image)
    assert reasons == [alignment.misframed(image, box, FRAMING) for box in boxes]
    assert len(set(reasons)) == 3


def test_eyes_are_judged_alike(call):
    rng = np.random.default_rng(6)
    boxes = [FaceBox(10, 20, 100)] * 300
    found = [
        tuple(tuple(point) for point in np.sort(rng.uniform(20, 110, (2, 2)), axis=0).tolist()) for _ in boxes
    ]
    calls = [
        ["plausible", pair, box_dict(box), yunet.YUNET_MAX_ROLL]
        for pair, box in zip(found, boxes, strict=True)
    ]
    expected = [
        eyes.plausible(pair, box.x, box.y, box.side, yunet.YUNET_MAX_ROLL)
        for pair, box in zip(found, boxes, strict=True)
    ]
    assert call("alignment", *calls) == expected
    assert 10 < sum(expected) < 290


def random_outputs(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    """What YuNet could give, with many overlapping faces."""
    outputs = {}
    for stride in (8, 16, 32):
        cells = (height // stride) * (width // stride)
        outputs[f"cls_{stride}"] = rng.uniform(0.5, 1.05, (1, cells, 1))
        outputs[f"obj_{stride}"] = rng.uniform(0.3, 1.05, (1, cells, 1))
        outputs[f"bbox_{stride}"] = rng.normal(0, 0.8, (1, cells, 4))
        outputs[f"kps_{stride}"] = rng.normal(0, 1, (1, cells, 10))
    outputs["bbox_8"][0, 3, 2] = 200.0  # more than a number of 32 bits holds
    return {name: value.astype(np.float32) for name, value in outputs.items()}


def test_the_detectors_outputs_are_decoded_alike(call):
    outputs = random_outputs(np.random.default_rng(7), 96, 160)
    sent = {name: {"values": base64.b64encode(value.tobytes()).decode()} for name, value in outputs.items()}
    (rows,) = call("yunet", ["decode", sent, 96, 160])
    expected = yunet.decode(outputs, (96, 160), 0.7)
    assert len(expected) > 50
    np.testing.assert_allclose(np.array(rows), expected, rtol=1e-5, atol=1e-4)
    (kept,) = call("yunet", ["suppress", expected.tolist()])
    best = yunet.suppress(expected)
    assert len(best) < len(expected)
    np.testing.assert_array_equal(np.array(kept, np.float32), best)


def test_a_face_is_found_again_alike(call):
    rng = np.random.default_rng(8)
    image = np.zeros((240, 320, 3), np.uint8)
    known = FaceBox(100, 80, 90)
    for _ in range(20):
        boxes = [random_box(rng, image) for _ in range(8)] + [
            FaceBox(100 + int(rng.integers(-40, 40)), 90, int(rng.integers(50, 140)))
        ]
        (first, again) = call(
            "yunet",
            ["largestFirst", [box_dict(box) for box in boxes]],
            ["nearest", [box_dict(box) for box in boxes], box_dict(known)],
        )
        assert first == [box_dict(box) for box in searching.largest_first(boxes)]
        best = searching.nearest(boxes, known)
        assert again == (None if best is None else box_dict(best))


# a detector that finds a red face with a green and a blue eye, and reads 0.6 of its roll; in both languages
FIND = """({ data, width }) => {
    const sums = [0, 1, 2].map(() => [0, 0, 0]);
    for (let at = 0; at < data.length; at += 4) {
        for (let channel = 0; channel < 3; channel++) {
            if (data[at + channel] <= 150) continue;
            sums[channel][0] += 1;
            sums[channel][1] += (at / 4) % width;
            sums[channel][2] += Math.floor(at / 4 / width);
        }
    }
    if (sums.some(([count]) => count < 5)) return [];
    const [[x, y], [x0, y0], [x1, y1]] = sums.map(([count, across, down]) => [across / count, down / count]);
    const side = Math.round(Math.sqrt(sums[0][0]));
    const read = 0.6 * Math.atan2(y1 - y0, x1 - x0), reach = Math.hypot(x1 - x0, y1 - y0) / 2;
    const eyes = [-reach, reach].map((way) =>
        [(x0 + x1) / 2 + way * Math.cos(read), (y0 + y1) / 2 + way * Math.sin(read)]);
    const left = Math.floor(x - side / 2 + 0.75), top = Math.floor(y - side / 2 + 0.75);
    return [{ x: left, y: top, side, score: 0.9, eyes, landmarks: [...eyes, [x, y], ...eyes] }];
}"""


def find(image: np.ndarray) -> list[FaceBox]:
    places = [np.nonzero(image[:, :, channel] > 150)[::-1] for channel in range(3)]
    if min(len(across) for across, _ in places) < 5:
        return []
    (x, y), (x0, y0), (x1, y1) = ((float(across.mean()), float(down.mean())) for across, down in places)
    side = round(math.sqrt(len(places[0][0])))
    read, reach = 0.6 * math.atan2(y1 - y0, x1 - x0), math.hypot(x1 - x0, y1 - y0) / 2
    left, right = (
        ((x0 + x1) / 2 + way * math.cos(read), (y0 + y1) / 2 + way * math.sin(read))
        for way in (-reach, reach)
    )
    corner = math.floor(x - side / 2 + 0.75), math.floor(y - side / 2 + 0.75)
    return [FaceBox(*corner, side, 0.9, (left, right), (left, right, (x, y), left, right))]


@pytest.mark.parametrize("degrees", [0, 10, 24, 35, -48])
def test_turned_faces_are_read_alike(page, degrees):
    image = np.full((300, 400, 3), 30, np.uint8)
    middle, side, angle = np.array((190.0, 160.0)), 90.0, math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = cv2.boxPoints((tuple(middle), (side, side), float(degrees)))
    cv2.fillPoly(image, [corners.round().astype(np.int32)], (255, 30, 30))
    for across, colour in ((-0.2, (255, 255, 30)), (0.2, (255, 30, 255))):
        place = middle + turn @ np.array((across * side, -0.1 * side))
        cv2.circle(image, tuple(place.round().astype(int).tolist()), 9, colour, -1)
    boxes = page.evaluate(
        f"""async (sent) => {{
            const {{ findLevel }} = await import("/runtime/levelling.js");
            const data = Uint8ClampedArray.from(atob(sent.image), (letter) => letter.charCodeAt(0));
            return findLevel(async (image) => ({FIND})(image), {{ ...sent, data }}, {{ copies: true }});
        }}""",
        shown(image),
    )
    (expected,) = LevelDetector(find, copies=True)(image)
    (box,) = boxes
    assert (box["x"], box["y"], box["side"]) == (expected.x, expected.y, expected.side)
    np.testing.assert_allclose(box["eyes"], expected.eyes, atol=1e-6)
    # without the looks, it would be 0.6 of the roll
    assert eyes.roll(expected.eyes) == pytest.approx(degrees, abs=6)


def test_quality(call):
    rng = np.random.default_rng(9)
    calls, expected = [], []
    for index in range(24):
        side = int(rng.integers(9, 140))
        crop = random_image(rng, side, side, smooth=index % 4)
        crop = np.clip(crop * rng.uniform(0.1, 1.3) + rng.uniform(-20, 60), 0, 255).astype(np.uint8)
        points = tuple((float(x), float(y)) for x, y in rng.uniform(0, side, (5, 2)))
        box = FaceBox(3, 4, side, landmarks=points if index % 3 else None)
        calls.append(["faceQuality", shown(crop), box_dict(box), 112])
        expected.append(quality.face_quality(crop, box, 112))
    for result, wanted in zip(call("quality", *calls), expected, strict=True):
        found = [np.nan if value is None else value for value in result["parts"].values()]
        parts = [np.nan if value is None else value for value in vars(wanted).values()]
        np.testing.assert_allclose(found, parts, atol=2e-4)
        assert result["overall"] == pytest.approx(wanted.overall, abs=2e-4)
