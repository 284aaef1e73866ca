// Asks the worker that labels.

import { Capture } from "./capture.js";

const seconds = () => performance.now() / 1e3;

export class Local {
  #worker; #opened; #end; #tell;
  #asked = new Map();
  #count = 0;

  constructor() {
    // frames and images of before wait for the network
    this.#opened = new Promise((resolve, reject) => { this.#end = { resolve, reject }; });
    this.#opened.catch(() => null);
  }

  // Loads the networks: { name, labels, facts }. wanted: as of `openNetworks`. tell(text): says what is being done.
  open(wanted, tell) {
    this.#tell = tell;
    this.#worker = new Worker(new URL("../runtime/worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#take(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#take({ kind: "failure", id: null, text: event.message || "The scripts of this page could not be loaded." });
    };
    this.#worker.postMessage({ kind: "open", wanted });
    return this.#opened;
  }

  // The faces of an image file.
  async label(file) {
    return { source: file.name, ...(await this.#ask({ kind: "file", file })) };
  }

  // Labels frames of a <video>: onAnswer(answer, seconds, frames that were skipped, the frame); onEnd(reason).
  follow(video, onAnswer, onEnd) {
    let fresh = true, busy = false, ended = false;
    const take = async (canvas) => {
      busy = true;
      const begun = seconds(), { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      const message = { kind: "frame", image: { data, width, height }, at: begun, fresh };
      fresh = false;
      try {
        const answer = await this.#ask(message, [data.buffer]);
        if (!ended) onAnswer(answer, seconds() - begun, capture.skipped, canvas);
      } catch (error) {
        if (!ended) onEnd(error.message);
      }
      busy = false;
    };
    // one canvas for the frame without an answer, and one that may be shown
    const capture = new Capture(video, 2, () => !busy, take);
    return {
      stop() {
        ended = true;
        capture.stop();
      },
    };
  }

  async #ask(message, transferred = []) {
    await this.#opened;
    return new Promise((resolve, reject) => {
      const id = this.#count++;
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ ...message, id }, transferred);
    });
  }

  #take({ kind, id, text, answer, ...opened }) {
    if (kind === "progress") return this.#tell(text);
    if (kind === "open") return this.#end.resolve(opened);
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (kind === "answer") return asked.resolve(answer);
    if (asked) return asked.reject(new Error(text));
    // of the worker as a whole
    const error = new Error(text);
    this.#end.reject(error);
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }
}
