// An image in, labelled faces out, as edgefel/runtime/labelling.py and stream/people.py; faces have the fields of
// `edgefel predict --json`, those of a stream also `track`.

import { align, misframed } from "./alignment.js";
import { findLevel } from "./levelling.js";
import { outputSize } from "./preprocessing.js";
import { faceQuality } from "./quality.js";
import { Smoother } from "./smoothing.js";
import { Tracker } from "./tracking.js";

const rounded = (value) => (value === null ? null : Math.round(1e3 * value) / 1e3);

export class Labeller {
  #contract; #find; #predict; #tracker; #smoothers;

  // find: async image -> boxes. predict: async (crops, spent) -> for each { probabilities, primary, confidence, embedding },
  // which adds its stages' milliseconds to `spent`.
  constructor(contract, find, predict) {
    this.#contract = contract;
    this.#find = find;
    this.#predict = predict;
    this.reset();
  }

  // The next frame shows other people.
  reset() {
    this.#tracker = new Tracker();
    this.#smoothers = new WeakMap();
  }

  // The faces of an image that stands alone.
  async image(image) {
    const spent = {}, { boxes, predictions, qualities } = await this.#label(image, spent, true);
    const faces = boxes.map((box, at) => this.#face(image, box, predictions[at], qualities[at].overall, qualities[at]));
    return { faces, spent };
  }

  // The people of a frame of a stream, whose distributions are averaged. now: seconds.
  async frame(image, now) {
    const spent = {}, { boxes, predictions, qualities } = await this.#label(image, spent, false), begun = performance.now();
    const embeddings = predictions.every((one) => one.embedding) ? predictions.map((one) => one.embedding) : null;
    const faces = this.#tracker.update(now, boxes, embeddings).flatMap((track, at) => {
      if (!this.#smoothers.has(track)) this.#smoothers.set(track, new Smoother(this.#contract.smoothing));
      const alone = { ...predictions[at], quality: qualities[at].overall };
      const steady = this.#smoothers.get(track).update(now, alone);
      if (!track.number) return [];
      const face = this.#face(image, boxes[at], steady, steady.quality, qualities[at]);
      return [{ track: track.number, age: rounded(now - track.began), ...face }];
    });
    spent.post += performance.now() - begun;
    return { faces, spent };
  }

  async #label(image, spent, alone) {
    const { preprocessing, framing } = this.#contract;
    let begun = performance.now();
    const lap = (stage) => {
      const now = performance.now();
      spent[stage] = now - begun;
      begun = now;
    };
    const boxes = framing ? await findLevel(this.#find, image, { copies: alone }) : await this.#find(image);
    lap("detect");
    const crops = boxes.map((box) => align(image, box, preprocessing.resize, framing));
    lap("align");
    const predictions = crops.length ? await this.#predict(crops, spent) : [];
    begun = performance.now();
    const qualities = crops.map((crop, at) => faceQuality(crop, boxes[at], outputSize(preprocessing)));
    lap("post");
    return { boxes, predictions, qualities };
  }

  #face(image, box, { probabilities, primary, confidence }, quality, { parts }) {
    const { labels, framing, min_quality: least } = this.#contract;
    const named = (values) => Object.fromEntries(labels.map((label, at) => [label, values[at]]));
    const top = (values) => labels[values.indexOf(Math.max(...values))];
    const topLabel = top(probabilities);
    return {
      box: { x: box.x, y: box.y, width: box.side, height: box.side },
      eyes: box.eyes,
      detection_score: box.score,
      label: quality >= least ? topLabel : "unsure",
      top_label: topLabel,
      probability: Math.max(...probabilities),
      confidence,
      quality: rounded(quality),
      quality_parts: Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, rounded(value)])),
      primary_label: top(primary),
      probabilities: named(probabilities),
      primary: named(primary),
      misframed: framing ? misframed(image, box, framing) : null,
    };
  }
}
