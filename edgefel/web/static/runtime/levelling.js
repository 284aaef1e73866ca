// The true roll of turned faces, read from upright copies of them, as edgefel/runtime/levelling.py.

import { centre, roll } from "./alignment.js";
import { round, warp } from "./pixels.js";
import { nearest } from "./yunet.js";

const LOOK = [1.1, 224];
const UNDERREAD = 1.5, LEVEL = 4, LEVEL_WINDOWS = 8, MOST_LOOKS = 4;
const GREY = 128, READ_SIDE = 160, LONGEST_SIDE = 960;
const COPIES = [-50, 50];

const radians = (degrees) => (degrees * Math.PI) / 180;

// The faces of an image, the largest first. find: async image -> boxes. copies: search turned copies of the image where
// it shows none.
export async function findLevel(find, image, { copies = false } = {}) {
  const shrunk = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  let found = [];
  for (const box of await find(image)) found.push(await level(find, image, box, box.side * shrunk));
  if (copies && !found.length) found = await searchCopies(find, image);
  return found.sort((one, other) => other.side - one.side);
}

async function level(find, image, box, seen) {
  const eyes = box.landmarks ? box.landmarks.slice(0, 2) : box.eyes;
  if (!eyes) return box;
  const read = roll(eyes);
  if (Math.abs(read) < LEVEL && box.eyes && seen >= READ_SIDE) return box;
  const settled = await settle(find, image, box, 0, read);
  const turned = settled.eyes && Math.abs(roll(settled.eyes)) >= LEVEL_WINDOWS;
  return turned || !box.eyes ? settled : box;
}

async function searchCopies(find, image) {
  const { width, height } = image, found = [];
  for (const degrees of COPIES) {
    const cos = Math.cos(radians(degrees)), sin = Math.sin(radians(degrees));
    const wide = round(Math.abs(cos) * width + Math.abs(sin) * height);
    const tall = round(Math.abs(sin) * width + Math.abs(cos) * height);
    const x = (wide - 1) / 2, y = (tall - 1) / 2, middle = [(width - 1) / 2, (height - 1) / 2];
    const matrix = [cos, -sin, middle[0] - cos * x + sin * y, sin, cos, middle[1] - sin * x - cos * y];
    for (const seen of await find(warp(image, matrix, wide, tall, GREY))) {
      const box = toImage(seen, matrix, 1), [cx, cy] = centre(box);
      const inside = cx >= 0 && cx < width && cy >= 0 && cy < height;
      if (inside && box.eyes) found.push(await settle(find, image, box, degrees, roll(box.eyes) - degrees));
    }
  }
  const kept = [];
  for (const box of found.sort((one, other) => (other.score ?? 0) - (one.score ?? 0))) {
    const apart = (other) => Math.hypot(centre(box)[0] - centre(other)[0], centre(box)[1] - centre(other)[1]);
    if (kept.every((other) => apart(other) > Math.max(box.side, other.side) / 2)) kept.push(box);
  }
  return kept;
}

async function settle(find, image, box, turned, rest) {
  const limit = box.landmarks ? LEVEL : LEVEL_WINDOWS;
  for (let number = 0; number < MOST_LOOKS; number++) {
    turned += Math.abs(rest) > LEVEL_WINDOWS ? rest * UNDERREAD : rest;
    const again = await look(find, image, box, turned);
    if (!again?.eyes) break;
    box = { ...again, score: box.score };
    rest = roll(box.eyes) - turned;
    if (Math.abs(rest) < limit) break;
  }
  return box;
}

async function look(find, image, box, degrees) {
  const [wide, pixels] = LOOK, step = (wide * box.side) / pixels;
  const cos = step * Math.cos(radians(degrees)), sin = step * Math.sin(radians(degrees)), half = (pixels - 1) / 2;
  const [x, y] = centre(box).map((value) => value - 0.5);
  const matrix = [cos, -sin, x - (cos - sin) * half, sin, cos, y - (sin + cos) * half];
  const patch = warp(image, matrix, pixels, pixels);
  const side = round(pixels / wide), corner = Math.floor((pixels - side) / 2);
  // the whole patch is searched: it is smaller than what a search near the face would take
  const best = nearest(await find(patch), { x: corner, y: corner, side });
  return best && toImage(best, matrix, step);
}

// A box of an upright copy in pixels of the image: upright about its middle, with the points where they are.
function toImage(box, [a, b, x, c, d, y], step) {
  const place = ([px, py]) => [a * px + b * py + x, c * px + d * py + y];
  const side = Math.max(1, round(box.side * step));
  const [middleX, middleY] = centre(box);
  const [left, top] = place([middleX - 0.5, middleY - 0.5]);
  return {
    ...box,
    x: round(left + 0.5 - side / 2),
    y: round(top + 0.5 - side / 2),
    side,
    eyes: box.eyes && box.eyes.map(place),
    landmarks: box.landmarks && box.landmarks.map(place),
  };
}
