// Steady distributions of one person, as edgefel/runtime/stream/smoothing.py.

const LEAST_WEIGHT = 0.2;

export function confidenceOf(probabilities) {
  const entropy = -probabilities.reduce((sum, value) => sum + (value > 0 ? value * Math.log(value) : 0), 0);
  return Math.min(1, Math.max(0, 1 - entropy / Math.log(probabilities.length)));
}

export class Smoother {
  #seconds; #time = 0; #mean = null;

  // seconds: time constant; 0 is none.
  constructor(seconds) {
    this.#seconds = seconds;
  }

  // Adds a frame, { probabilities, primary, confidence, quality }, and returns the average in the same form.
  update(time, frame) {
    const mean = this.#mean;
    let { probabilities, primary, quality } = frame;
    if (mean && this.#seconds) {
      const share = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * Math.min(1, Math.max(0, frame.confidence));
      const elapsed = Math.max(time - this.#time, 0) / this.#seconds, weight = -Math.expm1(-elapsed * share);
      const towards = (old, now) => old.map((value, at) => value + weight * (now[at] - value));
      probabilities = towards(mean.probabilities, probabilities);
      primary = towards(mean.primary, primary);
      quality = mean.quality - Math.expm1(-elapsed) * (quality - mean.quality);
    }
    this.#time = time;
    this.#mean = { probabilities, primary, confidence: confidenceOf(probabilities), quality };
    return this.#mean;
  }
}
