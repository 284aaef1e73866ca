// Boxes, numbers and labels over the image.

import { canvasOf, colour, variableOf } from "./palette.js";

const TALL = 24; // of a tag

// size: [width, height] of the image in which the boxes are. mirrored: the image is shown so.
export function drawFaces(canvas, faces, [width, height], mirrored) {
  const [context, across, down] = canvasOf(canvas);
  const scale = Math.min(across / width, down / height);
  const left = (across - width * scale) / 2, top = (down - height * scale) / 2;
  const tags = [];
  context.font = `600 ${across < 480 ? 12 : 14}px system-ui, sans-serif`;
  for (const face of faces) {
    const side = face.box.width * scale, tall = face.box.height * scale;
    const x = mirrored ? left + (width - face.box.x - face.box.width) * scale : left + face.box.x * scale;
    const y = top + face.box.y * scale;
    const ink = brighter(face.label);
    corners(context, x, y, side, tall, ink);
    tag(context, caption(face), placed(context, caption(face), x, y, tall, across, down, tags), ink);
  }
}

export function clear(canvas) { canvasOf(canvas); }

function caption(face) {
  const number = face.track === undefined ? "" : `${face.track}  `;
  const text = face.label === "unsure" ? `unsure, ${face.top_label}?` : `${face.label} ${Math.round(100 * face.probability)} %`;
  return number + text;
}

// the stage is dark in both themes
function brighter(label) {
  const [red, green, blue] = colour(variableOf(label)).match(/[\d.]+/g).map(Number);
  const lift = Math.max(1, 200 / Math.max(red, green, blue));
  return `rgb(${[red, green, blue].map((value) => Math.min(255, Math.round(value * lift))).join(" ")})`;
}

function corners(context, x, y, width, height, ink) {
  const arm = Math.min(width, height) / 4.5;
  const thick = Math.max(2, Math.min(4, width / 70));
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const [style, line] of [["rgb(0 0 0 / .55)", thick + 2], [ink, thick]]) {
    context.strokeStyle = style;
    context.lineWidth = line;
    for (const [cx, cy, dx, dy] of [[x, y, 1, 1], [x + width, y, -1, 1], [x, y + height, 1, -1], [x + width, y + height, -1, -1]]) {
      context.beginPath();
      context.moveTo(cx + dx * arm, cy);
      context.lineTo(cx, cy);
      context.lineTo(cx, cy + dy * arm);
      context.stroke();
    }
  }
}

// Below the box, or above it where another tag is; { left, top, width }.
function placed(context, text, x, y, tall, across, down, tags) {
  const width = context.measureText(text).width + 28;
  const left = Math.max(2, Math.min(x, across - width - 2));
  const free = (top) => tags.every((other) => Math.abs(other.top - top) >= TALL || other.left + other.width <= left ||
    left + width <= other.left);
  const places = [y + tall + 5, y - TALL - 5, y + tall + 8 + TALL].map((top) => Math.max(2, Math.min(top, down - TALL - 2)));
  const place = { left, top: places.find(free) ?? places[0], width };
  tags.push(place);
  return place;
}

function tag(context, text, { left, top, width }, ink) {
  context.fillStyle = "rgb(13 16 21 / .82)";
  context.beginPath();
  context.roundRect(left, top, width, TALL, 7);
  context.fill();
  context.fillStyle = ink;
  context.beginPath();
  context.arc(left + 11, top + TALL / 2, 4, 0, 7);
  context.fill();
  context.fillStyle = "#f2f4f7";
  context.textBaseline = "middle";
  context.fillText(text, left + 20, top + TALL / 2 + 0.5);
}
