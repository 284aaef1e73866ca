// YuNet's search of an image, as edgefel/runtime/yunet.py and searching.py; the network itself is passed as a function.

import { centre, plausible } from "./alignment.js";
import { resizeArea, round } from "./pixels.js";

const STRIDES = [8, 16, 32];
const WIDTHS = { cls: 1, obj: 1, bbox: 4, kps: 10 };
const SCORE = 0.7, OVERLAP = 0.3, MOST = 5000, MOST_ROLL = 60;
const LONGEST_SIDE = 960;
const NEAR_SIZES = [0.7, 1.4];

export class YuNet {
  // run: async (Float32Array [1, 3, H, W], H, W) -> { name: Float32Array }. sides: [H, W] of the only input that the
  // network takes, null if it takes any.
  constructor(run, sides = null) {
    this.run = run;
    this.sides = sides;
  }

  // An image -> boxes, the largest first.
  async find(image) {
    const { width, height } = image;
    let factor = Math.min(1, LONGEST_SIDE / Math.max(width, height));
    if (this.sides) factor = Math.min(factor, this.sides[0] / height, this.sides[1] / width);
    const small = factor === 1 ? image : shrunk(image, factor);
    const boxes = [];
    for (const row of await this.#rows(small)) {
      // of an image that is a few pixels wide the network makes boxes that are far away
      const x = Math.fround(row[0] + row[2] / 2), y = Math.fround(row[1] + row[3] / 2);
      if (x < 0 || y < 0 || x >= small.width || y >= small.height) continue;
      boxes.push(faceBox(row.map((value) => Math.fround(value / factor)), row[14]));
    }
    return largestFirst(boxes);
  }

  async #rows(image) {
    const [height, width] = this.sides ?? [image.height, image.width].map((side) => Math.ceil(side / 32) * 32);
    const outputs = await this.run(padded(image, width, height), height, width);
    return suppress(decode(outputs, height, width));
  }
}

function shrunk(image, factor) {
  const width = round(factor * image.width), height = round(factor * image.height);
  if (width && height) return resizeArea(image, width, height, 1 / factor, 1 / factor);
  return resizeArea(image, Math.max(1, width), Math.max(1, height));
}

// RGB as BGR planes, zeros below and on the right.
function padded({ data, width, height }, wide, tall) {
  const planes = new Float32Array(3 * wide * tall), plane = wide * tall;
  for (let row = 0, from = 0; row < height; row++) {
    for (let at = row * wide, end = at + width; at < end; at++, from += 4) {
      planes[at] = data[from + 2];
      planes[plane + at] = data[from + 1];
      planes[2 * plane + at] = data[from];
    }
  }
  return planes;
}

// Rows of 15: x, y, width, height; x, y of five landmarks; score. In pixels of the input.
export function decode(outputs, height, width, least = SCORE) {
  const rows = [];
  for (const stride of STRIDES) {
    const across = Math.floor(width / stride), down = Math.floor(height / stride);
    const values = {};
    for (const name of Object.keys(WIDTHS)) values[name] = outputs[`${name}_${stride}`];
    for (let cell = 0; cell < across * down; cell++) {
      const unit = (value) => Math.min(Math.max(value, 0), 1);
      const score = Math.fround(Math.sqrt(Math.fround(unit(values.cls[cell]) * unit(values.obj[cell]))));
      if (!(score >= least)) continue;
      const x = cell % across, y = Math.floor(cell / across), f = Math.fround;
      const box = values.bbox.subarray(4 * cell, 4 * cell + 4), points = values.kps.subarray(10 * cell, 10 * cell + 10);
      const wide = f(f(Math.exp(box[2])) * stride), tall = f(f(Math.exp(box[3])) * stride);
      const row = [f(f(f(x + box[0]) * stride) - wide / 2), f(f(f(y + box[1]) * stride) - tall / 2), wide, tall];
      for (let point = 0; point < 10; point++) row.push(f(f(points[point] + (point % 2 ? y : x)) * stride));
      row.push(score);
      if (row.every(Number.isFinite)) rows.push(row);
    }
  }
  return rows;
}

// Rows by falling score, without those that overlap a better one; boxes in whole pixels, as in OpenCV.
export function suppress(rows, overlap = OVERLAP) {
  const sorted = [...rows].sort((one, other) => other[14] - one[14]).slice(0, MOST), kept = [];
  const boxOf = (row) => {
    const [left, top, width, height] = row.slice(0, 4).map(Math.trunc);
    return { left, top, right: left + width, bottom: top + height, area: width * height };
  };
  for (const row of sorted) {
    const box = boxOf(row);
    const hidden = kept.some(({ box: best }) => {
      const across = Math.min(best.right, box.right) - Math.max(best.left, box.left);
      const down = Math.min(best.bottom, box.bottom) - Math.max(best.top, box.top);
      const common = Math.max(across, 0) * Math.max(down, 0), union = best.area + box.area - common;
      // two boxes of no area are the same
      return union > 0 ? common > overlap * union : 1 > overlap;
    });
    if (!hidden) kept.push({ row, box });
  }
  return kept.map(({ row }) => row);
}

// A row in pixels of the image as a square, with the landmarks on the image's left first.
function faceBox(row, score) {
  const [x, y, width, height] = row, larger = Math.max(width, height), side = Math.max(1, round(larger));
  const place = { x: round(x + width / 2 - side / 2), y: round(y + height / 2 - side / 2), side };
  const points = [4, 6, 8, 10, 12].map((at) => [row[at], row[at + 1]]);
  const inOrder = (one, other) => (one[0] < other[0] || (one[0] === other[0] && one[1] <= other[1]) ? [one, other] : [other, one]);
  const eyes = inOrder(points[0], points[1]);
  const landmarks = [...eyes, points[2], ...inOrder(points[3], points[4])];
  return { ...place, score, landmarks, eyes: plausible(eyes, place, MOST_ROLL) ? eyes : null };
}

// By size, without boxes whose centre lies in a larger one.
export function largestFirst(boxes) {
  const kept = [];
  const sorted = [...boxes].sort((one, other) => other.side - one.side || one.x - other.x || one.y - other.y);
  for (const box of sorted) {
    const [x, y] = centre(box);
    const within = (other) => x >= other.x && x < other.x + other.side && y >= other.y && y < other.y + other.side;
    if (!kept.some(within)) kept.push(box);
  }
  return kept;
}

// The box that can be the known face, the nearest of several; null if none can.
export function nearest(found, known) {
  const [x, y] = centre(known);
  let best = null, least = known.side / 2;
  for (const box of found) {
    if (box.side < NEAR_SIZES[0] * known.side || box.side > NEAR_SIZES[1] * known.side) continue;
    const distance = Math.hypot(centre(box)[0] - x, centre(box)[1] - y);
    if (distance < least || (distance === least && best === null)) [best, least] = [box, distance];
  }
  return best;
}
