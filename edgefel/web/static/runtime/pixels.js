// Images as OpenCV resamples them: the same fixed-point arithmetic, so that the network sees the runtime's bytes.
//
// An image is { data, width, height }: four bytes per pixel as in ImageData, of which the fourth is ignored. Sources:
// OpenCV 4, modules/imgproc/src/resize.cpp and imgwarp.cpp.

export function image(width, height) {
  return { data: new Uint8ClampedArray(4 * width * height), width, height };
}

// Half to even, as cvRound and Python's round.
export function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

const clamp = (value, most) => Math.min(Math.max(value, 0), most);

// The square at (x, y); what lies beyond the image repeats its border.
export function crop(source, x, y, side) {
  const { width, height } = source;
  const from = new Uint32Array(source.data.buffer, source.data.byteOffset, width * height);
  const result = image(side, side), to = new Uint32Array(result.data.buffer);
  for (let row = 0, at = 0; row < side; row++) {
    const start = clamp(y + row, height - 1) * width;
    for (let column = 0; column < side; column++) to[at++] = from[start + clamp(x + column, width - 1)];
  }
  return result;
}

// Means of areas in integers, halves rounded up, as _area_mean of edgefel/data/preprocessing.py.
export function areaMean(source, width, height) {
  const columns = overlaps(source.width, width), rows = overlaps(source.height, height);
  const whole = source.width * source.height;
  const result = image(width, height), line = new Float64Array(3 * width), sum = new Float64Array(3 * width);
  rows.forEach((down, y) => {
    sum.fill(0);
    for (const [row, tall] of down) {
      line.fill(0);
      columns.forEach((across, x) => {
        for (const [column, wide] of across) {
          const at = 4 * (row * source.width + column);
          line[3 * x] += source.data[at] * wide;
          line[3 * x + 1] += source.data[at + 1] * wide;
          line[3 * x + 2] += source.data[at + 2] * wide;
        }
      });
      for (let at = 0; at < line.length; at++) sum[at] += line[at] * tall;
    }
    for (let x = 0, at = 4 * y * width, from = 0; x < width; x++, at += 4) {
      for (let channel = 0; channel < 3; channel++, from++) {
        result.data[at + channel] = Math.floor(sum[from] / whole + 0.5);
      }
    }
  });
  return result;
}

// For each output, the pixels that it covers: [pixel, how much of it in units of 1 / size].
function overlaps(length, size) {
  return Array.from({ length: size }, (_, target) => {
    const start = target * length, end = start + length, found = [];
    for (let pixel = Math.floor(start / size); pixel * size < end; pixel++) {
      found.push([pixel, Math.min(end, (pixel + 1) * size) - Math.max(start, pixel * size)]);
    }
    return found;
  });
}

// cv2.INTER_AREA where both sides shrink. scale: pixels of the source for each of the result, across and down.
export function resizeArea(source, width, height, scaleX = source.width / width, scaleY = source.height / height) {
  const across = round(scaleX), down = round(scaleY);
  if (Math.abs(scaleX - across) < Number.EPSILON && Math.abs(scaleY - down) < Number.EPSILON) {
    return resizeWhole(source, width, height, across, down);
  }
  const columns = areaTable(source.width, width, scaleX), rows = areaTable(source.height, height, scaleY);
  const result = image(width, height), line = new Float32Array(3 * width), sum = new Float32Array(3 * width);
  for (let y = 0, entry = 0; y < height; y++) {
    sum.fill(0);
    for (; entry < rows.to.length && rows.to[entry] === y; entry++) {
      line.fill(0);
      const start = 4 * rows.from[entry] * source.width, beta = rows.share[entry];
      for (let one = 0; one < columns.to.length; one++) {
        const at = start + 4 * columns.from[one], into = 3 * columns.to[one], alpha = columns.share[one];
        line[into] += Math.fround(source.data[at] * alpha);
        line[into + 1] += Math.fround(source.data[at + 1] * alpha);
        line[into + 2] += Math.fround(source.data[at + 2] * alpha);
      }
      for (let at = 0; at < line.length; at++) sum[at] += Math.fround(line[at] * beta);
    }
    // Uint8ClampedArray rounds halves to even, too
    for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
      result.data[at] = sum[3 * x];
      result.data[at + 1] = sum[3 * x + 1];
      result.data[at + 2] = sum[3 * x + 2];
    }
  }
  return result;
}

// Whole numbers of pixels become one.
function resizeWhole(source, width, height, across, down) {
  const result = image(width, height), area = across * down, share = Math.fround(1 / area);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      let red = 0, green = 0, blue = 0;
      for (let row = 0; row < down; row++) {
        let from = 4 * ((y * down + row) * source.width + x * across);
        for (let column = 0; column < across; column++, from += 4) {
          red += source.data[from];
          green += source.data[from + 1];
          blue += source.data[from + 2];
        }
      }
      const mean = area === 4 ? (sum) => (sum + 2) >> 2 : (sum) => Math.fround(sum * share);
      result.data[at] = mean(red);
      result.data[at + 1] = mean(green);
      result.data[at + 2] = mean(blue);
    }
  }
  return result;
}

function areaTable(length, size, scale) {
  const from = [], to = [], share = [];
  const add = (source, target, weight) => { from.push(source); to.push(target); share.push(weight); };
  for (let target = 0; target < size; target++) {
    const start = target * scale, end = start + scale, cell = Math.min(scale, length - start);
    const last = Math.min(Math.floor(end), length - 1), first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) add(first - 1, target, (first - start) / cell);
    for (let source = first; source < last; source++) add(source, target, 1 / cell);
    if (end - last > 1e-3) add(last, target, Math.min(end - last, 1, cell) / cell);
  }
  return { from: Int32Array.from(from), to: Int32Array.from(to), share: Float32Array.from(share) };
}

// cv2.INTER_LINEAR; it skips pixels where it shrinks by more than 2.
export function resizeLinear(source, width, height) {
  if (source.width === 2 * width && source.height === 2 * height) return resizeArea(source, width, height);
  const columns = linearTable(source.width, width, true), rows = linearTable(source.height, height, false);
  const result = image(width, height);
  const line = (row) => {
    const values = new Int32Array(3 * width);
    const start = 4 * row * source.width;
    for (let x = 0, into = 0; x < width; x++, into += 3) {
      const one = start + 4 * columns.first[x], other = start + 4 * columns.second[x];
      for (let channel = 0; channel < 3; channel++) {
        values[into + channel] =
          source.data[one + channel] * columns.near[x] + source.data[other + channel] * columns.far[x];
      }
    }
    return values;
  };
  const lines = new Map(); // two at a time
  const cached = (row) => {
    if (!lines.has(row)) lines.set(row, line(row));
    return lines.get(row);
  };
  for (let y = 0; y < height; y++) {
    for (const row of lines.keys()) if (row < rows.first[y]) lines.delete(row);
    const above = cached(rows.first[y]), below = cached(rows.second[y]);
    const near = rows.near[y], far = rows.far[y];
    for (let x = 0, at = 4 * y * width, from = 0; x < width; x++, at += 4) {
      for (let channel = 0; channel < 3; channel++, from++) {
        const sum = ((near * (above[from] >> 4)) >> 16) + ((far * (below[from] >> 4)) >> 16);
        result.data[at + channel] = (sum + 2) >> 2;
      }
    }
  }
  return result;
}

// Of each output: both inputs, and their weights in units of 1/2048. isAcross: beyond the border, OpenCV takes one pixel
// of a row, but mixes the same row with itself, which rounds otherwise.
function linearTable(length, size, isAcross) {
  const first = new Int32Array(size), second = new Int32Array(size);
  const near = new Int32Array(size), far = new Int32Array(size);
  const scale = length / size;
  for (let target = 0; target < size; target++) {
    const place = Math.fround((target + 0.5) * scale - 0.5);
    let whole = Math.floor(place), rest = Math.fround(place - whole);
    if (isAcross && whole < 0) [whole, rest] = [0, 0];
    if (isAcross && whole >= length - 1) [whole, rest] = [length - 1, 0];
    first[target] = clamp(whole, length - 1);
    second[target] = clamp(whole + 1, length - 1);
    near[target] = round(Math.fround(1 - rest) * 2048);
    far[target] = round(rest * 2048);
  }
  return { first, second, near, far };
}

// Pillow's bilinear resampling, whose filter is as wide as the reduction: across, then down, rounded after each.
export function resizeAntialiased(source, width, height) {
  const across = width === source.width ? source : filterRows(source, width, true);
  return height === source.height ? across : filterRows(across, height, false);
}

const FILTER_BITS = 22;

function filterRows(source, size, isAcross) {
  const length = isAcross ? source.width : source.height, other = isAcross ? source.height : source.width;
  const result = isAcross ? image(size, other) : image(other, size);
  const step = isAcross ? 4 : 4 * source.width, otherStep = isAcross ? 4 * source.width : 4;
  const into = isAcross ? 4 : 4 * result.width, otherInto = isAcross ? 4 * result.width : 4;
  triangles(length, size).forEach(({ first, weights }, target) => {
    for (let line = 0; line < other; line++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (FILTER_BITS - 1), at = line * otherStep + first * step + channel;
        for (const weight of weights) {
          sum += source.data[at] * weight;
          at += step;
        }
        result.data[line * otherInto + target * into + channel] = sum >> FILTER_BITS;
      }
    }
  });
  return result;
}

function triangles(length, size) {
  const step = length / size, reach = Math.max(step, 1);
  return Array.from({ length: size }, (_, target) => {
    const centre = (target + 0.5) * step;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), length);
    const shares = [];
    for (let input = first; input < end; input++) {
      shares.push(Math.max(1 - Math.abs(input - centre + 0.5) / reach, 0));
    }
    const total = shares.reduce((one, more) => one + more, 0);
    return { first, weights: shares.map((share) => Math.floor((share / total) * 2 ** FILTER_BITS + 0.5)) };
  });
}

// cv2.warpAffine, bilinear, with WARP_INVERSE_MAP: in steps of 1/32 of a pixel.
// matrix: [a, b, x, c, d, y] from pixels of the result to pixels of the source. border: a grey value around the source;
// without one its border is repeated.
export function warp(source, [a, b, x, c, d, y], width, height, border = null) {
  const result = image(width, height), lastX = source.width - 1, lastY = source.height - 1;
  const deltaX = new Int32Array(width), deltaY = new Int32Array(width);
  for (let column = 0; column < width; column++) {
    deltaX[column] = round(a * column * 1024);
    deltaY[column] = round(c * column * 1024);
  }
  const around = Uint8Array.of(border, border, border, 0);
  // the pixel at a place, as an array and the index in it
  const found = (px, py) => {
    if (border !== null && (px < 0 || py < 0 || px > lastX || py > lastY)) return [around, 0];
    return [source.data, 4 * (clamp(py, lastY) * source.width + clamp(px, lastX))];
  };
  for (let row = 0, into = 0; row < height; row++) {
    const startX = round((b * row + x) * 1024) + 16, startY = round((d * row + y) * 1024) + 16;
    for (let column = 0; column < width; column++, into += 4) {
      const fixedX = (startX + deltaX[column]) >> 5, fixedY = (startY + deltaY[column]) >> 5;
      const left = fixedX >> 5, top = fixedY >> 5, across = fixedX & 31, down = fixedY & 31;
      let one = source.data, two = one, three = one, four = one;
      let atOne = 4 * (top * source.width + left), atTwo = atOne + 4;
      let atThree = atOne + 4 * source.width, atFour = atThree + 4;
      if (left < 0 || top < 0 || left >= lastX || top >= lastY) {
        [one, atOne] = found(left, top);
        [two, atTwo] = found(left + 1, top);
        [three, atThree] = found(left, top + 1);
        [four, atFour] = found(left + 1, top + 1);
      }
      const far = across * down, east = 32 * across - far, south = 32 * down - far, near = 1024 - far - east - south;
      for (let channel = 0; channel < 3; channel++) {
        const sum = one[atOne + channel] * near + two[atTwo + channel] * east + three[atThree + channel] * south +
          four[atFour + channel] * far;
        result.data[into + channel] = (sum + 512) >> 10;
      }
    }
  }
  return result;
}

// cv2.cvtColor's grey (ITU-R BT.601) as one byte per pixel.
export function grey({ data, width, height }) {
  const values = new Uint8Array(width * height);
  for (let at = 0, from = 0; at < values.length; at++, from += 4) {
    values[at] = (data[from] * 9798 + data[from + 1] * 19235 + data[from + 2] * 3735 + (1 << 14)) >> 15;
  }
  return values;
}
