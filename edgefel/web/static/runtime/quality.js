// How well a face can be read, as edgefel/runtime/quality.py.

import { grey, image, resizeArea, resizeLinear } from "./pixels.js";

const SIDE = 48, NOSE = 0.5;
const POSE = [60, 15], SMALLEST = 8, ENOUGH = 0.5, SHARPNESS = [0.03, 0.11], NOISE = [0.6, 0.2];
const CONTRAST = [7, 30], DARK = [20, 80], BURNT = [1, 0.25], WHITE = 250;
const NOISE_FILTER = [1, -2, 1];

// 0 to 1 each. crop: as the network's preprocessing takes it. inputSide: of the network's input.
export function faceQuality(crop, box, inputSide) {
  const shorter = Math.min(crop.width, crop.height), side = Math.max(8, Math.min(SIDE, box.side, shorter));
  const values = brightness(crop, side, shorter > side);
  const margin = Math.floor(side / 10), from = margin, to = side - margin;
  const { mean, deviation } = moments(inner(values, side, from, to));
  const spread = Math.max(deviation, 1e-3);
  const local = filtered(values, side, [1 / 3, 1 / 3, 1 / 3]);
  const fine = values.map((value, at) => value - local[at]);
  const detail = moments(inner(fine, side, from, to)).deviation;
  const rough = inner(filtered(values, side, NOISE_FILTER), side, from, to);
  const total = rough.reduce((sum, value) => sum + Math.abs(value), 0);
  const noise = ((Math.sqrt(Math.PI / 2) / 6) * total) / rough.length;
  const burnt = inner(values, side, from, to).filter((value) => value >= WHITE).length / rough.length;
  const parts = {
    size: sizeOf(box.side, inputSide),
    pose: box.landmarks ? between(Math.abs(yaw(box.landmarks)), POSE) : null,
    contrast: between(Math.log(spread), CONTRAST.map(Math.log)),
    sharpness: between(detail / spread, SHARPNESS),
    noise: between(noise / spread, NOISE),
    exposure: Math.min(between(Math.log(Math.max(mean, 1e-3)), DARK.map(Math.log)), between(burnt, BURNT)),
  };
  return { parts, overall: Math.min(...Object.values(parts).filter((value) => value !== null)) };
}

function brightness(crop, side, shrinks) {
  const shade = image(crop.width, crop.height), values = grey(crop);
  for (let at = 0; at < values.length; at++) shade.data[4 * at] = values[at];
  // crops are squares: both sides shrink, or none
  const small = shrinks ? resizeArea(shade, side, side) : resizeLinear(shade, side, side);
  return Float32Array.from({ length: side * side }, (_, at) => small.data[4 * at]);
}

// A separable filter of three taps; the border is mirrored without repeating its pixels.
function filtered(values, side, taps) {
  return acrossTransposed(acrossTransposed(values, side, taps), side, taps);
}

// Filters along rows, and transposes: twice, both ways are filtered and all is where it was.
function acrossTransposed(values, side, [left, middle, right]) {
  const result = new Float32Array(side * side);
  for (let row = 0, at = 0; row < side; row++) {
    for (let x = 0; x < side; x++, at++) {
      const before = x ? at - 1 : at + 1, after = x < side - 1 ? at + 1 : at - 1;
      result[x * side + row] = left * values[before] + middle * values[at] + right * values[after];
    }
  }
  return result;
}

function inner(values, side, from, to) {
  const found = [];
  for (let y = from; y < to; y++) for (let x = from; x < to; x++) found.push(values[y * side + x]);
  return found;
}

function moments(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / values.length) };
}

// Degrees of a head's turn to one side.
export function yaw([[x0, y0], [x1, y1], [x, y], [x2, y2], [x3, y3]]) {
  const middleX = (x0 + x1) / 2, middleY = (y0 + y1) / 2;
  const downX = (x2 + x3) / 2 - middleX, downY = (y2 + y3) / 2 - middleY;
  const area = (x1 - x0) * downY - (y1 - y0) * downX;
  if (area === 0) return 90;
  return Math.atan(((x - middleX) * downY - (y - middleY) * downX) / area / NOSE) * (180 / Math.PI);
}

function sizeOf(side, wanted) {
  const enough = Math.max(ENOUGH * wanted, 2 * SMALLEST);
  return between(Math.log(Math.max(side, 1)), [Math.log(SMALLEST), Math.log(enough)]);
}

const between = (value, [zero, one]) => Math.min(1, Math.max(0, (value - zero) / (one - zero)));
