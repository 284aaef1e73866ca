// The last seconds of one person: which label, and how the probabilities went.

import { allLabels, canvasOf, colour, variableOf } from "./palette.js";

export const SECONDS = 30;
const GAP = 1.0; // seconds without the person that leave a gap
const STRIP = 20, AXIS = 15;

export class Timeline {
  #points = [];

  add(now, face) {
    this.#points.push({ now, label: face.label, top: face.top_label, shares: face.probabilities });
    while (this.#points.length && this.#points[0].now < now - SECONDS - 1) this.#points.shift();
  }

  // What a person who does not see the canvas is told: the labels in order, with their seconds.
  describe(now) {
    const runs = this.#runs().filter((run) => run.to - run.from >= 0.5 && run.to > now - SECONDS);
    if (!runs.length) return "no label has lasted for half a second yet";
    return runs.slice(-6).map((run) => `${run.label} for ${(run.to - run.from).toFixed(1)} seconds`).join(", then ");
  }

  draw(canvas, now) {
    const [context, width, height] = canvasOf(canvas);
    if (!width) return;
    const x = (time) => width * (1 - (now - time) / SECONDS);
    const bottom = height - AXIS;
    context.fillStyle = colour("--track");
    context.beginPath();
    context.roundRect(0, 0, width, bottom, 5);
    context.fill();
    context.save();
    context.clip();
    for (const piece of this.#pieces()) this.#areas(context, piece, x, STRIP + 2, bottom);
    for (const run of this.#runs()) strip(context, run, Math.max(0, x(run.from)), x(run.to));
    context.restore();
    axis(context, width, height, x, now);
  }

  // pieces without gaps
  #pieces() {
    const pieces = [];
    for (const point of this.#points) {
      const last = pieces.at(-1);
      if (last && point.now - last.at(-1).now <= GAP) last.push(point);
      else pieces.push([point]);
    }
    return pieces;
  }

  #runs() {
    const runs = [];
    for (const piece of this.#pieces()) {
      let run = null;
      for (const point of piece) {
        if (run && run.label === point.label) run.to = point.now;
        else {
          if (run) run.to = point.now;
          run = { label: point.label, from: point.now, to: point.now };
          runs.push(run);
        }
      }
    }
    return runs;
  }

  // stacked, the first class at the bottom
  #areas(context, piece, x, top, bottom) {
    const base = new Array(piece.length).fill(0);
    for (const label of allLabels()) {
      context.fillStyle = colour(variableOf(label));
      context.beginPath();
      piece.forEach((point, index) => context.lineTo(x(point.now), bottom - (bottom - top) * base[index]));
      for (let index = piece.length - 1; index >= 0; index--) {
        base[index] += piece[index].shares[label] || 0;
        context.lineTo(x(piece[index].now), bottom - (bottom - top) * base[index]);
      }
      context.fill();
    }
  }
}

function strip(context, run, from, to) {
  if (to <= 0) return;
  const width = Math.max(1, to - from);
  context.fillStyle = colour("--card");
  context.fillRect(from, 0, width, STRIP);
  context.fillStyle = colour(variableOf(run.label));
  context.fillRect(from, STRIP - 4, width, 4);
  context.fillRect(from, 0, 2, STRIP);
  context.font = "600 11.5px system-ui, sans-serif";
  context.textBaseline = "middle";
  const room = width - 10;
  const text = [run.label, run.label.slice(0, 4)].find((name) => context.measureText(name).width <= room);
  if (text) {
    context.fillStyle = colour("--ink");
    context.fillText(text, from + 6, STRIP / 2 - 1);
  }
}

function axis(context, width, height, x, now) {
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "alphabetic";
  context.fillStyle = colour("--soft");
  for (let back = 0; back <= SECONDS; back += 10) {
    const text = back ? `${back} s ago` : "now";
    const wide = context.measureText(text).width;
    context.fillText(text, Math.max(0, Math.min(x(now - back) - wide / 2, width - wide)), height - 2);
  }
}
