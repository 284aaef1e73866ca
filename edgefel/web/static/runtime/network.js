// The detector and the network in ONNX Runtime Web, each by the provider that is fastest here and agrees with what the
// runtime gave for the same image when the page was exported.

import { align } from "./alignment.js";
import { floatBatch, outputSize, pixelBatch } from "./preprocessing.js";
import { YuNet } from "./yunet.js";

const HERE = new URL("../", import.meta.url);
const VENDORED = new URL("onnxruntime-web/", HERE);
const MOST_THREADS = 4;
const TIMED = 3; // runs, of which the fastest counts
const MOST_MOVED = 2; // pixels between two boxes of a face

// contract: of contract.json. check: { image, found, faces }: the exported image, the detector's boxes in it, and those that
// are labelled with their distributions. wanted: { compute: "wasm" | "webgpu" | null, threads: number | null }. tell(text): says what is being done.
// Returns { find, predict, facts }, functions of `Labeller` and what they use, in words.
export async function openNetworks(contract, check, wanted, tell) {
  const { providers, passedOver } = await chooseProviders(contract, wanted);
  const threads = chooseThreads(wanted);
  tell(`Loading ONNX Runtime ${contract.onnxruntime}`);
  const ort = await loadRuntime(providers.includes("webgpu"), threads);
  const detector = await open(ort, contract.detector.file, providers, tell, (session) => {
    const yunet = new YuNet((input, height, width) => runDetector(ort, session, input, height, width), contract.detector.sides);
    return { use: (image) => yunet.find(image), test: (find) => testDetector(find, check) };
  });
  const network = await open(ort, contract.network.file, providers, tell, (session) => ({
    use: (crops, spent = {}) => runNetwork(ort, session, contract, crops, spent),
    test: (predict) => testNetwork(predict, contract, check),
  }));
  const perFace = network.milliseconds / check.faces.length, { width, height } = check.image;
  const facts = {
    network: `${contract.network.precision}, ${nameOf(network.provider)}, ${perFace.toFixed(1)} ms per face`,
    detector: `${contract.detector.name}, ${nameOf(detector.provider)}, ${detector.milliseconds.toFixed(1)} ms for ${width}x${height}`,
    threads: threads.text,
    deviation: network.deviation,
    notes: [...passedOver, ...detector.notes, ...network.notes],
  };
  return { find: detector.use, predict: network.use, facts };
}

const nameOf = (provider) => (provider === "webgpu" ? "WebGPU" : "WASM");

async function chooseProviders(contract, { compute }) {
  if (compute === "wasm" || !contract.webgpu) return { providers: ["wasm"], passedOver: [] };
  const adapter = await self.navigator.gpu?.requestAdapter().catch(() => null);
  // a fallback is computed by the CPU, much slower than WASM
  const soft = adapter && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  if (adapter && (!soft || compute === "webgpu")) {
    return { providers: compute === "webgpu" ? ["webgpu"] : ["webgpu", "wasm"], passedOver: [] };
  }
  return { providers: ["wasm"], passedOver: [`no WebGPU: ${soft ? "only a software one" : "none in this browser"}`] };
}

function chooseThreads({ threads }) {
  const cores = self.navigator.hardwareConcurrency || 1;
  if (!self.crossOriginIsolated) {
    return { count: 1, text: "1: the page is not cross-origin isolated, which threads need" };
  }
  const count = threads ?? Math.max(1, Math.min(MOST_THREADS, cores - 1));
  return { count, text: `${count} of ${cores} cores` };
}

async function loadRuntime(gpu, { count }) {
  const ort = await import(new URL(gpu ? "ort.webgpu.min.js" : "ort.wasm.min.js", VENDORED));
  const glue = `ort-wasm-simd-threaded${gpu ? ".asyncify" : ""}`;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = count;
  ort.env.wasm.wasmPaths = { mjs: new URL(`${glue}.js`, VENDORED).href, wasm: new URL(`${glue}.wasm`, VENDORED).href };
  return ort;
}

// make(session): { use, test }; test(use) runs `use` once and returns how far it is off, or throws.
async function open(ort, file, providers, tell, make) {
  tell(`Loading ${file}`);
  const answer = await fetch(new URL(file, HERE));
  if (!answer.ok) throw new Error(`${file}: the server answered ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const notes = [];
  let best = null;
  for (const provider of providers) {
    tell(`Trying ${file} with ${nameOf(provider)}`);
    let session = null;
    try {
      session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
      const { use, test } = make(session);
      const deviation = await test(use);
      let milliseconds = Infinity;
      for (let run = 0; run < TIMED; run++) {
        const begun = performance.now();
        await test(use);
        milliseconds = Math.min(milliseconds, performance.now() - begun);
      }
      if (best) await (milliseconds < best.milliseconds ? best : { session }).session.release();
      if (!best || milliseconds < best.milliseconds) best = { session, provider, use, deviation, milliseconds };
    } catch (error) {
      notes.push(`${file} not with ${nameOf(provider)}: ${error.message}`);
      await session?.release().catch(() => null);
    }
  }
  if (!best) throw new Error(notes.join("; "));
  return { ...best, notes };
}

async function runDetector(ort, session, input, height, width) {
  const tensor = new ort.Tensor("float32", input, [1, 3, height, width]);
  const outputs = await session.run({ [session.inputNames[0]]: tensor });
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
}

async function runNetwork(ort, session, { preprocessing, input, outputs }, crops, spent) {
  const begun = performance.now(), side = outputSize(preprocessing), count = crops.length;
  const tensor = input === "uint8"
    ? new ort.Tensor("uint8", pixelBatch(crops, preprocessing), [count, side, side, 3])
    : new ort.Tensor("float32", floatBatch(crops, preprocessing), [count, 3, side, side]);
  const ready = performance.now();
  const results = await session.run({ image: tensor }, outputs);
  spent.preprocess = ready - begun;
  spent.inference = performance.now() - ready;
  return crops.map((_, at) => {
    const row = (name) => {
      const { data } = results[name];
      return Array.from(data.subarray((at * data.length) / count, ((at + 1) * data.length) / count));
    };
    const embedding = outputs.includes("embedding") ? row("embedding") : null;
    return { probabilities: row("probabilities"), primary: row("primary"), confidence: row("confidence")[0], embedding };
  });
}

async function testDetector(find, { image, found: expected }) {
  const found = await find(image);
  const moved = expected.map((box) => Math.min(...found.map((one) =>
    Math.max(Math.abs(one.x - box.x), Math.abs(one.y - box.y), Math.abs(one.side - box.side)))));
  if (found.length !== expected.length || Math.max(...moved) > MOST_MOVED) {
    throw new Error("it finds other faces than the runtime; does the browser alter the images that pages read?");
  }
  return Math.max(...moved);
}

async function testNetwork(predict, { preprocessing, framing, network }, { image, faces }) {
  const crops = faces.map(({ box }) => align(image, box, preprocessing.resize, framing));
  const predictions = await predict(crops);
  const deviation = Math.max(...predictions.flatMap(({ probabilities, primary }, at) => [
    ...probabilities.map((value, one) => Math.abs(value - faces[at].probabilities[one])),
    ...primary.map((value, one) => Math.abs(value - faces[at].primary[one])),
  ]));
  // NaN is no agreement
  if (!(deviation <= network.tolerance)) {
    throw new Error(`its probabilities deviate from the runtime's by ${deviation.toPrecision(2)}; does the browser alter the images that pages read?`);
  }
  return deviation;
}
