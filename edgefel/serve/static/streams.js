// Streams: frames of a video element to the server, and the device's own source from it.

import { socketTo } from "./api.js";
import { Capture } from "./capture.js";

const IN_FLIGHT = 2; // frames without an answer, at most
const QUALITY = 0.85;

const seconds = () => performance.now() / 1e3;

// Sends frames of a <video> and hands over answers: onAnswer(answer, round trip in seconds, frames not sent, the frame).
export class Sender {
  #socket; #onAnswer; #onEnd;
  #capture = null;
  #sent = new Map();
  #count = 0;
  #busy = false;
  #ahead = 1; // frames that may be without an answer
  #ended = false;

  constructor(video, onAnswer, onEnd) {
    this.#onAnswer = onAnswer;
    this.#onEnd = onEnd;
    this.#socket = socketTo("/v1/stream");
    // a canvas for each frame without an answer, and one that may be shown
    this.#socket.onopen = () => {
      const wanted = () => !this.#busy && this.#sent.size < this.#ahead;
      this.#capture = new Capture(video, IN_FLIGHT + 1, wanted, (canvas) => this.#send(canvas));
    };
    this.#socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#close(event.reason || "The connection to the server was lost.");
  }

  stop() {
    this.#ended = true;
    this.#capture?.stop();
    this.#socket.close();
  }

  #close(reason) {
    if (this.#ended) return;
    this.stop();
    this.#onEnd(reason);
  }

  async #send(canvas) {
    this.#busy = true;
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
    if (answer.problem || !sent || this.#ended) return;
    // a second frame on its way keeps the server busy while the network carries the first; without a slow network it would
    // only wait there
    const work = answer.latency_ms - answer.stages_ms.wait;
    this.#ahead = 1e3 * (seconds() - sent.begun) - answer.latency_ms > 0.5 * work ? IN_FLIGHT : 1;
    this.#onAnswer(answer, seconds() - sent.begun, this.#capture.skipped + answer.dropped, sent.canvas);
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
