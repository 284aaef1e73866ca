// A card for each person: label, both distributions, timeline.

import { allLabels, make, variableOf } from "./palette.js";
import { SECONDS, Timeline } from "./timeline.js";

const FORGET = 4; // seconds after which a card goes
const MOST = 12;

const percent = (share) => `${Math.round(100 * share)} %`;

class Card {
  constructor(name, withTimeline) {
    this.name = name;
    this.element = make("article", "person");
    const title = make("h3", "", name);
    const label = make("p", "label");
    this.swatch = make("span", "swatch");
    this.text = make("span");
    label.append(this.swatch, this.text);
    const head = make("header");
    head.append(title, label);
    this.meta = make("p", "meta");
    this.element.append(head, this.meta, this.#table(name));
    this.element.setAttribute("aria-label", name);
    if (withTimeline) {
      this.timeline = new Timeline();
      this.canvas = make("canvas", "timeline");
      this.canvas.setAttribute("role", "img");
      this.element.append(this.canvas);
    }
  }

  #table(name) {
    const table = make("table", "shares");
    table.append(make("caption", "", `Probabilities of ${name}, after and before correction`));
    const body = table.createTBody();
    this.rows = new Map();
    for (const label of allLabels()) {
      const row = body.insertRow();
      const first = make("th", "", label);
      first.scope = "row";
      const meter = make("div", "meter"), bar = make("i"), tick = make("b");
      bar.style.background = `var(${variableOf(label)})`;
      meter.append(bar, tick);
      const cell = make("td");
      cell.setAttribute("aria-hidden", "true");
      cell.append(meter);
      const last = make("td", "value"), value = make("span"), spoken = make("span", "hidden");
      last.append(value, spoken);
      row.append(first, cell, last);
      this.rows.set(label, { row, bar, tick, value, spoken });
    }
    return table;
  }

  show(face) {
    this.face = face;
    this.swatch.style.background = `var(${variableOf(face.label)})`;
    const unsure = face.label === "unsure";
    this.text.textContent = unsure ? `unsure, perhaps ${face.top_label}` : `${face.label} ${percent(face.probability)}`;
    const quality = face.quality === null ? "" : `, quality ${face.quality.toFixed(2)}`;
    this.meta.textContent = `confidence ${face.confidence.toFixed(2)}${quality}`;
    for (const [label, { row, bar, tick, value, spoken }] of this.rows) {
      const share = face.probabilities[label], before = face.primary[label];
      row.className = label === face.top_label ? "top-label" : "";
      bar.style.width = `${100 * share}%`;
      tick.style.left = `${100 * before}%`;
      value.textContent = percent(share);
      spoken.textContent = `, ${percent(before)} before correction`;
    }
  }
}

export class People {
  #cards = new Map();
  #drawn = 0;
  #described = 0;

  constructor(list, nobody) {
    this.list = list;
    this.nobody = nobody;
  }

  clear() {
    this.#cards.clear();
    this.list.replaceChildren();
    this.nobody.hidden = false;
  }

  // Faces of a frame of a stream. now: seconds.
  follow(faces, now) {
    for (const face of faces) {
      let card = this.#cards.get(face.track);
      if (!card) {
        if (this.#cards.size >= MOST) continue;
        card = new Card(`Person ${face.track}`, true);
        this.#cards.set(face.track, card);
        this.list.insertBefore(card.element, this.list.querySelector(".gone"));
      }
      card.seen = now;
      card.show(face);
      card.timeline.add(now, face);
      if (card.element.classList.replace("gone", "here")) {
        this.list.insertBefore(card.element, this.list.querySelector(".gone"));
      }
    }
    this.nobody.hidden = this.#cards.size > 0;
  }

  // Faces of one image.
  list_of(faces) {
    this.clear();
    faces.forEach((face, number) => {
      const card = new Card(`Face ${number + 1}`, false);
      card.show(face);
      this.list.append(card.element);
    });
    this.nobody.hidden = faces.length > 0;
  }

  // Draws timelines, and removes people who have gone.
  tick(now) {
    if (now - this.#drawn < 0.06) return;
    this.#drawn = now;
    const describe = now - this.#described > 3;
    if (describe) this.#described = now;
    for (const [track, card] of this.#cards) {
      const away = now - card.seen;
      if (away > FORGET) {
        card.element.remove();
        this.#cards.delete(track);
        continue;
      }
      if (away > 1 && !card.element.classList.contains("gone")) {
        card.element.classList.add("gone");
        this.list.append(card.element); // those who are there come first
      }
      card.timeline.draw(card.canvas, now);
      if (describe || !card.canvas.hasAttribute("aria-label")) {
        card.canvas.setAttribute("aria-label", `Last ${SECONDS} seconds of ${card.name}: ${card.timeline.describe(now)}`);
      }
    }
    this.nobody.hidden = this.list.childElementCount > 0;
  }

  // One sentence for a screen reader.
  sentence() {
    const said = [...this.#cards.values()].filter((card) => !card.element.classList.contains("gone"));
    if (!said.length) return "Nobody is in the image.";
    return said.map((card) => `${card.name}: ${card.face.label}`).join(". ") + ".";
  }
}
