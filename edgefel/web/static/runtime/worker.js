// Labels images away from the page, which stays responsive. Messages in: { kind: "open", wanted }, then { kind: "file",
// id, file } and { kind: "frame", id, image, at, fresh }. Messages out: { kind: "progress", text }, { kind: "open", ... },
// { kind: "answer", id, answer } and { kind: "failure", id, text }.

import { Labeller } from "./labelling.js";
import { openNetworks } from "./network.js";

const HERE = new URL("../", import.meta.url);

let labeller = null;
let last = Promise.resolve();
self.onmessage = ({ data: message }) => {
  last = last.then(() => answer(message));
};

async function answer(message) {
  try {
    if (message.kind === "open") self.postMessage({ kind: "open", ...(await open(message.wanted)) });
    else self.postMessage({ kind: "answer", id: message.id, answer: await label(message) });
  } catch (error) {
    self.postMessage({ kind: "failure", id: message.id ?? null, text: error.message });
  }
}

async function load(name) {
  const answer = await fetch(new URL(name, HERE));
  if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
  return answer;
}

async function open(wanted) {
  const contract = await (await load("contract.json")).json();
  const image = await pixelsOf(await (await load(contract.check.image)).blob());
  const check = { ...contract.check, image };
  const tell = (text) => self.postMessage({ kind: "progress", text });
  const { find, predict, facts } = await openNetworks(contract, check, wanted, tell);
  labeller = new Labeller(contract, find, predict);
  return { name: contract.name, labels: contract.labels, facts };
}

async function label({ kind, file, image, at, fresh }) {
  if (labeller === null) throw new Error("The network could not be loaded.");
  const begun = performance.now();
  if (kind === "file") image = await pixelsOf(file);
  if (fresh) labeller.reset();
  const { faces, spent } = kind === "file" ? await labeller.image(image) : await labeller.frame(image, at);
  const { width, height } = image;
  return { width, height, faces, stages_ms: spent, latency_ms: performance.now() - begun };
}

// The pixels of an image file as they are in it: no colour profile is applied, as the runtime applies none.
async function pixelsOf(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error("this browser cannot read it as an image");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}
