// Frames of a <video>, each when it is new and wanted.

const LONGEST = 720; // pixels of a frame's longer side

export class Capture {
  #video; #canvases; #wanted; #take;
  #count = 0;
  #ended = false;
  skipped = 0; // frames that were not wanted

  // canvases: that are used in turn. wanted(): whether a frame is wanted now. take(canvas): takes one.
  constructor(video, canvases, wanted, take) {
    this.#video = video;
    this.#canvases = Array.from({ length: canvases }, () => document.createElement("canvas"));
    this.#wanted = wanted;
    this.#take = take;
    this.#next();
  }

  stop() {
    this.#ended = true;
  }

  #next() {
    if (this.#ended) return;
    const again = () => { this.#draw(); this.#next(); };
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(again);
    else requestAnimationFrame(again);
  }

  #draw() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (this.#ended || !width || this.#video.paused) return;
    if (!this.#wanted()) {
      this.skipped += 1;
      return;
    }
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    const canvas = this.#canvases[this.#count++ % this.#canvases.length];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    this.#take(canvas);
  }
}
