// From a face crop to the network's input, as edgefel/data/preprocessing.py. `contract`: its `Preprocessing.to_dict()`.

import { areaMean, grey, resizeAntialiased, resizeLinear } from "./pixels.js";

// An image of any size -> [resize, resize].
export function resizeImage(crop, contract) {
  const resized = resize(crop, contract);
  if (contract.colour !== "grey") return resized;
  const values = grey(resized), data = new Uint8ClampedArray(resized.data.length);
  for (let at = 0, into = 0; at < values.length; at++, into += 4) data.fill(values[at], into, into + 3);
  return { ...resized, data };
}

function resize(crop, { resize: side, detail = null, resample = "area" }) {
  if (crop.width === side && crop.height === side && detail === null) return crop;
  if (detail !== null && Math.min(crop.width, crop.height) > detail) crop = areaMean(crop, detail, detail);
  if (resample === "antialias") return resizeAntialiased(crop, side, side);
  const shrinks = crop.width > side && crop.height > side;
  return shrinks && resample === "area" ? areaMean(crop, side, side) : resizeLinear(crop, side, side);
}

export const outputSize = ({ crop, stride }) => crop / stride;

// N crops of any sizes -> Uint8Array [N, S, S, 3].
export function pixelBatch(crops, contract) {
  const size = outputSize(contract), start = Math.floor((contract.resize - contract.crop) / 2);
  const batch = new Uint8Array(crops.length * size * size * 3);
  let into = 0;
  for (const crop of crops) {
    const { data, width } = resizeImage(crop, contract);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const from = 4 * ((start + row * contract.stride) * width + start + column * contract.stride);
        for (let channel = 0; channel < 3; channel++) batch[into++] = data[from + channel];
      }
    }
  }
  return batch;
}

// N crops of any sizes -> Float32Array [N, 3, S, S]: (x / 255 - mean) / std, rounded once.
export function floatBatch(crops, contract) {
  const pixels = pixelBatch(crops, contract), plane = outputSize(contract) ** 2;
  const tables = [0, 1, 2].map((channel) =>
    Float32Array.from({ length: 256 }, (_, value) => (value / 255 - contract.mean[channel]) / contract.std[channel]));
  const batch = new Float32Array(pixels.length);
  for (let number = 0, from = 0; number < crops.length; number++) {
    for (let at = 0; at < plane; at++) {
      for (let channel = 0; channel < 3; channel++) {
        batch[(3 * number + channel) * plane + at] = tables[channel][pixels[from++]];
      }
    }
  }
  return batch;
}
