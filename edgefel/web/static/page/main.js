// The page of `edgefel export --web`: frames and images are labelled in a worker of this browser.

import { Local } from "./local.js";
import { openPage } from "./page.js";
import { becomeIsolated } from "./isolation.js";
import { make } from "./palette.js";

const byId = (id) => document.getElementById(id);

function showFacts(facts, offline) {
  const deviation = facts.deviation.toExponential(0);
  const rows = [
    ["network", facts.network],
    ["faces", facts.detector],
    ["threads", facts.threads],
    ["agreement", `probabilities within ${deviation} of the runtime's, on an image that was exported with the page`],
    ["offline", offline],
    ...facts.notes.map((note) => ["note", note]),
  ];
  byId("facts").replaceChildren(...rows.map(([name, text]) => {
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", text));
    return row;
  }));
}

const local = new Local();
openPage({
  async describe() {
    const tell = (text) => { byId("model").textContent = text; };
    const offline = await becomeIsolated(tell);
    // for trials: ?compute=wasm or webgpu, ?threads=2
    const asked = new URLSearchParams(location.search);
    const wanted = { compute: asked.get("compute"), threads: Number(asked.get("threads")) || null };
    const { name, labels, facts } = await local.open(wanted, tell);
    showFacts(facts, offline);
    return { labels, text: `${name}, ${facts.network}` };
  },
  label: (file) => local.label(file),
  follow: (...about) => local.follow(...about),
});
