// Frame rate, latency by stage, and what a screen reader is told.

import { make } from "./palette.js";

const byId = (id) => document.getElementById(id);
const LEFT_OUT = new Set(["total"]);

export class Numbers {
  #times = [];
  #stages = new Map();
  #roundTrip = null;
  #total = null;
  #dropped = 0;
  #drawn = 0;

  reset(withRoundTrip) {
    this.#times = [];
    this.#stages.clear();
    this.#roundTrip = this.#total = null;
    this.#dropped = 0;
    byId("computing").parentElement.hidden = !withRoundTrip;
    for (const id of ["rate", "round-trip", "computing", "dropped"]) byId(id).textContent = "–";
    byId("stage-list").replaceChildren();
    byId("stage-bar").replaceChildren();
  }

  // now, roundTrip: seconds.
  add(answer, now, roundTrip, dropped) {
    this.#times.push(now);
    while (this.#times[0] < now - 2) this.#times.shift();
    this.#roundTrip = smooth(this.#roundTrip, 1e3 * roundTrip);
    this.#total = smooth(this.#total, answer.latency_ms);
    this.#dropped = dropped;
    for (const [name, value] of Object.entries(answer.stages_ms)) {
      if (!LEFT_OUT.has(name)) this.#stages.set(name, smooth(this.#stages.get(name) ?? null, value));
    }
    if (now - this.#drawn > 0.25) {
      this.#drawn = now;
      this.#draw(now);
    }
  }

  #draw(now) {
    const span = now - this.#times[0];
    byId("rate").textContent = span > 0.2 ? ((this.#times.length - 1) / span).toFixed(1) : "–";
    byId("round-trip").textContent = this.#roundTrip.toFixed(0);
    byId("computing").textContent = this.#total.toFixed(0);
    byId("dropped").textContent = this.#dropped;
    const sum = [...this.#stages.values()].reduce((one, other) => one + other, 0);
    const bar = byId("stage-bar"), list = byId("stage-list");
    if (list.childElementCount !== this.#stages.size) {
      bar.replaceChildren();
      list.replaceChildren();
      [...this.#stages.keys()].forEach((name, number) => {
        const colour = `var(--c${(number + 2) % 11})`, piece = make("i"), swatch = make("span", "swatch");
        piece.style.background = swatch.style.background = colour;
        const row = make("div"), term = make("dt", "", name);
        row.append(swatch, term, make("dd"));
        bar.append(piece);
        list.append(row);
      });
    }
    [...this.#stages.values()].forEach((value, number) => {
      bar.children[number].style.width = `${(100 * value) / Math.max(sum, 1e-9)}%`;
      list.children[number].lastChild.textContent = `${value.toFixed(1)} ms`;
    });
  }
}

const smooth = (mean, value) => (mean === null ? value : mean + 0.15 * (value - mean));

// Says a sentence when it has changed, at most every five seconds: a screen reader would otherwise never be silent.
export class Announcer {
  #said = "";
  #at = -Infinity;

  say(sentence, now) {
    if (sentence === this.#said || now - this.#at < 5) return;
    this.#said = sentence;
    this.#at = now;
    byId("announcer").textContent = sentence;
  }
}
