// The box of a face and its crop with level eyes, as edgefel/runtime/alignment.py and eyes.py.
//
// A box is { x, y, side, score, eyes, landmarks }: a square in pixels of the image; eyes [[x, y], [x, y]] or null, and
// landmarks (both eyes, tip of the nose, corners of the mouth) or null, those on the image's left first.

import { crop, round, warp } from "./pixels.js";

const LEAST_ROLL = 2; // degrees
const MOST_SHRINKING = 1.5;
const EYES_PLACE = 0.75, EYES_SIZE = 0.5;
const MOST_APART = 1.75, MOST_AWAY = 0.3, MOST_BEYOND = 0.25;
// of YuNet's boxes: where they have the eyes of level faces
const EYES_DOWN = 0.4, EYES_APART = 0.35;

const APART = [0.25, 0.6], MIDDLE_DOWN = [0.25, 0.55], MIDDLE_ASIDE = 0.15;

const radians = (degrees) => (degrees * Math.PI) / 180;

// Degrees by which the line through the eyes falls to the right.
export function roll([[x0, y0], [x1, y1]]) {
  return Math.atan2(y1 - y0, x1 - x0) * (180 / Math.PI);
}

// Whether these can be the eyes of the face in a box.
export function plausible(eyes, { x, y, side }, mostRoll) {
  const [[x0, y0], [x1, y1]] = eyes;
  const middleX = (x0 + x1) / 2 - x, middleY = (y0 + y1) / 2 - y, apart = Math.hypot(x1 - x0, y1 - y0);
  return x1 > x0 && APART[0] * side <= apart && apart <= APART[1] * side && Math.abs(roll(eyes)) < mostRoll &&
    MIDDLE_DOWN[0] * side <= middleY && middleY <= MIDDLE_DOWN[1] * side &&
    Math.abs(middleX - side / 2) <= MIDDLE_ASIDE * side;
}

export function centre({ x, y, side }) {
  return [x + side / 2, y + side / 2];
}

// Where the crop of a face lies whose eyes shall be where `framing` has them: a square at (x, y), turned clockwise about
// `pivot` by `degrees`.
export function frameFace(box, framing) {
  const [middleX, middleY] = centre(box);
  let apart = EYES_APART * box.side, away = (EYES_DOWN - 0.5) * box.side;
  let angle = 0, fit = true, x = middleX, y = middleY + away;
  if (box.eyes) {
    const [[x0, y0], [x1, y1]] = box.eyes, turned = radians(roll(box.eyes));
    const fromX = middleX - Math.sin(turned) * away, fromY = middleY + Math.cos(turned) * away;
    const eyesX = (x0 + x1 + 1) / 2, eyesY = (y0 + y1 + 1) / 2; // from middles of pixels
    const ratio = Math.hypot(x1 - x0, y1 - y0) / apart;
    away = Math.hypot(eyesX - fromX, eyesY - fromY);
    fit = 1 / MOST_APART <= ratio && ratio <= MOST_APART && away <= MOST_AWAY * box.side;
    if (fit) {
      x = fromX + EYES_PLACE * (eyesX - fromX);
      y = fromY + EYES_PLACE * (eyesY - fromY);
      apart *= ratio ** EYES_SIZE;
      angle = Math.abs(roll(box.eyes)) >= LEAST_ROLL ? roll(box.eyes) : 0;
    }
  }
  const side = apart / framing.eyes_apart;
  return { x: x - side / 2, y: y - framing.eyes_down * side, side, pivot: [x - 0.5, y - 0.5], degrees: angle, fit };
}

// Why a face cannot be framed as in training; null if it can.
export function misframed(image, box, framing) {
  const { x, y, side, fit } = frameFace(box, framing);
  if (!fit) return "eyes that do not fit its box";
  const across = Math.min(x + side, image.width) - Math.max(x, 0), down = Math.min(y + side, image.height) - Math.max(y, 0);
  const beyond = 1 - (Math.max(across, 0) * Math.max(down, 0)) / side ** 2;
  return beyond > MOST_BEYOND ? "a frame that reaches far beyond the image" : null;
}

// The face in a box, with level eyes. size: what the network's preprocessing resizes to.
export function align(image, box, size, framing) {
  if (framing) return sampled(image, box, frameFace(box, framing), size);
  const angle = box.eyes ? roll(box.eyes) : 0, turned = Math.abs(angle) >= LEAST_ROLL;
  if (!box.eyes || !(turned || box.side <= MOST_SHRINKING * size)) return crop(image, box.x, box.y, box.side);
  const [[x0, y0], [x1, y1]] = box.eyes;
  const pivot = [(x0 + x1) / 2, (y0 + y1) / 2];
  return sampled(image, box, { ...box, pivot, degrees: turned ? angle : 0 }, size);
}

function sampled(image, box, frame, size) {
  const side = frame.side <= MOST_SHRINKING * size ? size : Math.max(1, round(frame.side));
  const matrix = toImage(frame, frame.side / side), [a, b, x, c, d, y] = matrix, last = side - 1;
  const across = [x, x + a * last, x + b * last, x + (a + b) * last];
  const down = [y, y + c * last, y + d * last, y + (c + d) * last];
  const left = Math.max(Math.floor(Math.min(...across)) - 1, 0), top = Math.max(Math.floor(Math.min(...down)) - 1, 0);
  const right = Math.min(Math.ceil(Math.max(...across)) + 2, image.width);
  const bottom = Math.min(Math.ceil(Math.max(...down)) + 2, image.height);
  // wholly outside: nothing to turn
  if (left >= right || top >= bottom) return crop(image, box.x, box.y, box.side);
  return warp(image, matrix, side, side);
}

// From pixels of the crop to pixels of the image, `step` of which a pixel of the crop stands for.
function toImage(frame, step) {
  const [middleX, middleY] = frame.pivot;
  const cos = Math.cos(radians(frame.degrees)), sin = Math.sin(radians(frame.degrees));
  // the middle of the crop's first pixel lies half a step inside the box
  const x = frame.x + (step - 1) / 2 - middleX, y = frame.y + (step - 1) / 2 - middleY;
  return [step * cos, -step * sin, middleX + cos * x - sin * y, step * sin, step * cos, middleY + sin * x + cos * y];
}
