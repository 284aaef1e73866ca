"""The box of a face, and its crop with level eyes, framed as the training data of the network. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Image
from edgefel.runtime.eyes import Eyes, Point, roll

# Below this, resampling costs more sharpness than it gains: found eyes are off by 1 to 2 degrees themselves.
LEAST_ROLL = 2.0
# A face more than this much larger than the wanted size is turned as it is, and shrunk by area afterwards: bilinear
# interpolation alone would skip pixels of it.
MOST_SHRINKING = 1.5
# A frame is placed and sized by the eyes and by the box. Eyes alone are worst in profile, where they come together and
# leave the middle of the head; boxes alone vary from face to face. On FER+ these shares of the eyes bring YuNet's
# faces nearest to the published crops: in place, 2.4 % of the side for frontal ones (eyes alone 2.8, boxes 3.5); in
# size, more costs as much on turned heads as it gains on frontal ones.
EYES_PLACE, EYES_SIZE = 0.75, 0.5
# Eyes are left aside where they are this much further apart, or nearer, than the box says, or this share of its side
# away from where its layout has them.
MOST_APART, MOST_AWAY = 1.75, 0.3
MOST_BEYOND = 0.25  # share of a frame outside the image, above which a face counts as badly framed


@dataclass(frozen=True)
class BoxLayout:
    """Where a detector's boxes have the eyes of level faces: height of the middle between them, and their distance, as
    shares of the side."""

    eyes_down: float
    eyes_apart: float


# Medians over the faces that both find among 400 images of FER+'s test set, by YuNet's landmarks. YuNet's boxes depend
# on the surroundings: the distance is 0.342 of the side in a mirrored margin, 0.355 in a grey one.
YUNET_BOX = BoxLayout(0.400, 0.350)
HAAR_BOX = BoxLayout(0.411, 0.386)


@dataclass(frozen=True)
class FaceBox:
    """A square around a face, in pixels of the image; may reach beyond its border.

    x, y: left and top. side: width and height. score: the detector's own, None if it has none. eyes: (x, y) of
    both, the one on the image's left first; None if they were not looked for or not found. landmarks: both eyes, the
    tip of the nose and both corners of the mouth, those on the image's left first, as a network found them; or None.
    layout: of the detector's boxes; None where the box is a crop of training data already.
    """

    x: int
    y: int
    side: int
    score: float | None = None
    eyes: Eyes | None = None
    landmarks: tuple[Point, ...] | None = None
    layout: BoxLayout | None = YUNET_BOX

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of its middle."""
        return self.x + self.side / 2, self.y + self.side / 2

    def moved(self, x: int, y: int) -> FaceBox:
        """The same box, `x` pixels further right and `y` further down."""
        eyes = self.eyes and (
            (self.eyes[0][0] + x, self.eyes[0][1] + y),
            (self.eyes[1][0] + x, self.eyes[1][1] + y),
        )
        landmarks = self.landmarks and tuple((px + x, py + y) for px, py in self.landmarks)
        return replace(self, x=self.x + x, y=self.y + y, eyes=eyes, landmarks=landmarks)

    def crop(self, image: Image) -> Image:
        """Cuts the square out of uint8 [H, W, 3]; what lies beyond the border repeats the border."""
        height, width = image.shape[:2]
        if 0 <= self.x <= width - self.side and 0 <= self.y <= height - self.side:
            # the same bytes as below, at a tenth of the time
            return image[self.y : self.y + self.side, self.x : self.x + self.side].copy()
        rows = np.arange(self.y, self.y + self.side).clip(0, height - 1)
        columns = np.arange(self.x, self.x + self.side).clip(0, width - 1)
        return np.asarray(image[rows[:, None], columns])


@dataclass(frozen=True)
class Frame:
    """The square that becomes a crop, in pixels of the image: the one at (x, y), turned clockwise by `degrees`.

    pivot: the point that it is turned about; as eyes do, it counts from the middle of the first pixel. eyes_fit:
    whether the eyes, if known, fit the box; they are not used if not.
    """

    x: float
    y: float
    side: float
    pivot: Point
    degrees: float = 0.0
    eyes_fit: bool = True

    def beyond(self, image: Image) -> float:
        """The share of the square, as it lies before it is turned, outside of the image."""
        height, width = image.shape[:2]
        across = min(self.x + self.side, width) - max(self.x, 0.0)
        down = min(self.y + self.side, height) - max(self.y, 0.0)
        return 1 - max(across, 0.0) * max(down, 0.0) / self.side**2


def frame_face(box: FaceBox, framing: Framing) -> Frame:
    """Where the crop of a face lies whose eyes shall be where `framing` has them.

    Place and size come from the eyes and the box together (EYES_PLACE, EYES_SIZE), without eyes, or where they do not
    fit the box, from the box and its layout. A box without a layout is the frame itself.
    """
    middle_x, middle_y = box.centre
    layout = box.layout
    if layout is None:
        return Frame(box.x, box.y, box.side, box.centre)
    apart, away = layout.eyes_apart * box.side, (layout.eyes_down - 0.5) * box.side
    angle, fit = 0.0, True
    x, y = middle_x, middle_y + away
    if box.eyes is not None:
        (x0, y0), (x1, y1) = box.eyes
        turned = math.radians(roll(box.eyes))
        # where the box has the middle of the eyes of a face that is turned about the box's middle
        from_x, from_y = middle_x - math.sin(turned) * away, middle_y + math.cos(turned) * away
        eyes_x, eyes_y = (x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2  # from middles of pixels
        ratio = math.hypot(x1 - x0, y1 - y0) / apart
        away = math.hypot(eyes_x - from_x, eyes_y - from_y)
        fit = 1 / MOST_APART <= ratio <= MOST_APART and away <= MOST_AWAY * box.side
        if fit:
            x, y = from_x + EYES_PLACE * (eyes_x - from_x), from_y + EYES_PLACE * (eyes_y - from_y)
            apart *= ratio**EYES_SIZE
            angle = roll(box.eyes) if abs(roll(box.eyes)) >= LEAST_ROLL else 0.0
    side = apart / framing.eyes_apart
    return Frame(x - side / 2, y - framing.eyes_down * side, side, (x - 0.5, y - 0.5), angle, fit)


def misframed(image: Image, box: FaceBox, framing: Framing) -> str | None:
    """Why a face cannot be framed as `framing` says; None if it can."""
    frame = frame_face(box, framing)
    if not frame.eyes_fit:
        return "eyes that do not fit its box"
    if frame.beyond(image) > MOST_BEYOND:
        return "a frame that reaches far beyond the image"
    return None


def align(image: Image, box: FaceBox, size: int | None = None, framing: Framing | None = None) -> Image:
    """The face in `box`, uint8 RGB [side, side, 3], turned about the middle between its eyes until they are level.

    image: uint8 RGB [H, W, 3]. What lies beyond it repeats its border. framing: of the network's training data; the
    crop is framed so whatever found the face (`frame_face`). Without it the framing is the box's: without `box.eyes`,
    or where they are level within LEAST_ROLL degrees, the crop is `box.crop(image)`, byte for byte.

    size: the side that the model's preprocessing resizes to. A face with known eyes or a `framing` whose side is not
    much larger (MOST_SHRINKING) comes in that size, [size, size, 3]: it is sampled once instead of twice.
    """
    if framing is not None and box.layout is not None:
        return _sampled(image, box, frame_face(box, framing), size)
    angle = 0.0 if box.eyes is None else roll(box.eyes)
    turned = abs(angle) >= LEAST_ROLL
    scaled = box.eyes is not None and size is not None and box.side <= MOST_SHRINKING * size
    if box.eyes is None or not (turned or scaled):
        return box.crop(image)
    (x0, y0), (x1, y1) = box.eyes
    pivot = (x0 + x1) / 2, (y0 + y1) / 2
    return _sampled(image, box, Frame(box.x, box.y, box.side, pivot, angle if turned else 0.0), size)


def _sampled(image: Image, box: FaceBox, frame: Frame, size: int | None) -> Image:
    """What the frame shows, bilinearly, uint8 RGB [side, side, 3]; `box.crop` where nothing of it lies in the image."""
    side = max(1, round(frame.side))
    if size is not None and frame.side <= MOST_SHRINKING * size:
        side = size
    (a, b, x), (c, d, y) = _to_image(frame, frame.side / side)
    # only the patch that the turned square covers: OpenCV copies an image whose pixels do not lie side by side
    height, width = image.shape[:2]
    last = side - 1
    across, down = (
        (x, x + a * last, x + b * last, x + (a + b) * last),
        (y, y + c * last, y + d * last, y + (c + d) * last),
    )
    x0, y0 = max(math.floor(min(across)) - 1, 0), max(math.floor(min(down)) - 1, 0)
    x1, y1 = math.ceil(max(across)) + 2, math.ceil(max(down)) + 2
    patch = image[y0 : min(y1, height), x0 : min(x1, width)]
    if patch.size == 0:  # wholly outside: nothing to turn
        return box.crop(image)
    matrix = np.array(((a, b, x - x0), (c, d, y - y0)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(patch, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, dtype=np.uint8)


def _to_image(frame: Frame, step: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Matrix [2, 3] from pixels of the crop to pixels of the image: a rotation about the frame's pivot.

    step: pixels of the image that a pixel of the crop stands for. Plain numbers, since NumPy's calls would take
    longer than the turning.
    """
    middle_x, middle_y = frame.pivot
    cos, sin = math.cos(math.radians(frame.degrees)), math.sin(math.radians(frame.degrees))
    # the middle of the crop's first pixel lies half a step inside the box
    x, y = frame.x + (step - 1) / 2 - middle_x, frame.y + (step - 1) / 2 - middle_y
    return (
        (step * cos, -step * sin, middle_x + cos * x - sin * y),
        (step * sin, step * cos, middle_y + sin * x + cos * y),
    )
