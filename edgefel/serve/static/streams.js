// Streams: frames of a video element to the server, and the device's own source from it.

import { socketTo } from "./api.js";

const LONGEST = 720; // pixels of a frame's longer side
const IN_FLIGHT = 2; // frames without an answer, at most
const QUALITY = 0.85;

const seconds = () => performance.now() / 1e3;

// Sends frames of a <video> and hands over answers: onAnswer(answer, round trip in seconds, frames not sent, the frame).
export class Sender {
  #video; #socket; #onAnswer; #onEnd;
  #canvases = Array.from({ length: IN_FLIGHT + 1 }, () => document.createElement("canvas"));
  #sent = new Map();
  #count = 0;
  #busy = false;
  #skipped = 0;
  #ahead = 1; // frames that may be without an answer
  #ended = false;

  constructor(video, onAnswer, onEnd) {
    this.#video = video;
    this.#onAnswer = onAnswer;
    this.#onEnd = onEnd;
    this.#socket = socketTo("/v1/stream");
    this.#socket.onopen = () => this.#next();
    this.#socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#close(event.reason || "The connection to the server was lost.");
  }

  stop() {
    this.#ended = true;
    this.#socket.close();
  }

  #close(reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd(reason);
  }

  #next() {
    if (this.#ended) return;
    const again = () => { this.#send(); this.#next(); };
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(again);
    else requestAnimationFrame(again);
  }

  async #send() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width || this.#video.paused || this.#socket.readyState !== WebSocket.OPEN) return;
    if (this.#busy || this.#sent.size >= this.#ahead) {
      this.#skipped += 1;
      return;
    }
    this.#busy = true;
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    // canvases in turn: one for each frame without an answer, and one that may be shown
    const canvas = this.#canvases[this.#count % this.#canvases.length];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext("2d").drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    const begun = seconds();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
    this.#busy = false;
    if (this.#ended || blob === null || this.#socket.readyState !== WebSocket.OPEN) return;
    this.#sent.set(this.#count, { begun, canvas });
    this.#count += 1;
    this.#socket.send(blob);
  }

  #take(answer) {
    const sent = this.#sent.get(answer.frame);
    // frames before it have been answered or replaced
    for (const number of this.#sent.keys()) if (number <= answer.frame) this.#sent.delete(number);
    if (answer.problem || !sent) return;
    // a second frame on its way keeps the server busy while the network carries the first; without a slow network it would
    // only wait there
    const work = answer.latency_ms - answer.stages_ms.wait;
    this.#ahead = 1e3 * (seconds() - sent.begun) - answer.latency_ms > 0.5 * work ? IN_FLIGHT : 1;
    this.#onAnswer(answer, seconds() - sent.begun, this.#skipped + answer.dropped, sent.canvas);
  }
}

// Shows the device's source in a canvas: onAnswer(answer) for each frame, after it is drawn.
export class Watcher {
  #socket; #ended = false;

  constructor(canvas, onAnswer, onEnd) {
    let answer = null;
    this.#socket = socketTo("/v1/live");
    this.#socket.onmessage = async (event) => {
      if (typeof event.data === "string") {
        answer = JSON.parse(event.data);
        return;
      }
      const of = answer;
      const image = await createImageBitmap(new Blob([event.data], { type: "image/jpeg" }));
      if (this.#ended) return;
      if (canvas.width !== image.width) canvas.width = image.width;
      if (canvas.height !== image.height) canvas.height = image.height;
      canvas.getContext("2d").drawImage(image, 0, 0);
      image.close();
      onAnswer(of);
    };
    this.#socket.onclose = (event) => {
      if (this.#ended) return;
      this.#ended = true;
      onEnd(event.reason || "The connection to the server was lost.");
    };
  }

  stop() {
    this.#ended = true;
    this.#socket.close();
  }
}
