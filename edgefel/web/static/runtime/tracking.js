// Which face of a frame is which person, as edgefel/runtime/stream/tracker.py.

const LEAST_OVERLAP = 0.2, REACH = 1, LEAST_LIKENESS = 0.8, APPEARANCE = 0.3, PATIENCE = 1, CONFIRM = 2;
const STEADY = 0.1, MOVES_ON = 0.5, MOST_RATIO = 1.5;

class Track {
  number = 0; // until it is confirmed
  hits = 1;
  #velocity = [0, 0, 0];

  constructor(time, square, embedding) {
    this.began = this.seen = time;
    this.square = square; // [x, y] of its centre, side
    this.embedding = embedding;
  }

  expected(time) {
    const elapsed = Math.min(time - this.seen, MOVES_ON), [x, y, side] = this.square;
    const grown = Math.min(Math.max(side + this.#velocity[2] * elapsed, side / MOST_RATIO), side * MOST_RATIO);
    return [x + this.#velocity[0] * elapsed, y + this.#velocity[1] * elapsed, grown];
  }

  update(time, square, embedding) {
    const elapsed = time - this.seen;
    if (elapsed > 0) {
      const share = -Math.expm1(-elapsed / STEADY);
      this.#velocity = this.#velocity.map((old, at) => old + share * ((square[at] - this.square[at]) / elapsed - old));
    }
    this.square = square;
    this.seen = time;
    this.hits += 1;
    if (embedding && this.embedding) embedding = unit(this.embedding.map((old, at) => 0.9 * old + 0.1 * embedding[at]));
    this.embedding = embedding ?? this.embedding;
  }
}

export class Tracker {
  #tracks = [];
  #count = 0;

  // The track of each box. time: seconds. embeddings: an array of numbers for each box, or null.
  update(time, boxes, embeddings = null) {
    const squares = boxes.map(({ x, y, side }) => [x + side / 2, y + side / 2, side]);
    const faces = boxes.map((_, at) => (embeddings?.[at].every(Number.isFinite) ? unit(embeddings[at]) : null));
    for (const track of this.#tracks) {
      track.seen = Math.min(track.seen, time);
      track.began = Math.min(track.began, time);
    }
    this.#tracks = this.#tracks.filter((track) => time - track.seen <= PATIENCE);
    const costs = this.#tracks.map((track) => {
      const expected = track.expected(time);
      return squares.map((square, at) => costOf(expected, square, track.embedding, faces[at]));
    });
    const found = boxes.map(() => null);
    for (const [row, column] of assign(costs)) {
      found[column] = this.#tracks[row];
      found[column].update(time, squares[column], faces[column]);
    }
    // a track that misses a frame before it is confirmed was a false detection
    this.#tracks = this.#tracks.filter((track) => track.number || track.seen === time);
    return found.map((known, at) => {
      const track = known ?? new Track(time, squares[at], faces[at]);
      if (!known) this.#tracks.push(track);
      if (!track.number && track.hits >= CONFIRM) track.number = ++this.#count;
      return track;
    });
  }
}

function costOf(expected, found, known, face) {
  const larger = Math.max(expected[2], found[2]);
  const inReach = Math.hypot(expected[0] - found[0], expected[1] - found[1]) <= REACH * larger;
  const overlap = overlapOf(expected, found), overlaps = overlap >= LEAST_OVERLAP;
  const likeness = known && face ? known.reduce((sum, value, at) => sum + value * face[at], 0) : null;
  const alike = likeness !== null && likeness >= LEAST_LIKENESS;
  const resembles = alike && larger <= MOST_RATIO * Math.max(1, Math.min(expected[2], found[2]));
  if (!overlaps && !(inReach && resembles)) return Infinity;
  return 1 - overlap + (likeness === null ? 0 : APPEARANCE * (1 - likeness));
}

function overlapOf([x, y, side], [otherX, otherY, other]) {
  const reach = (side + other) / 2, most = Math.min(side, other);
  const width = Math.min(most, reach - Math.abs(x - otherX)), height = Math.min(most, reach - Math.abs(y - otherY));
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (side ** 2 + other ** 2 - width * height);
}

function unit(embedding) {
  const length = Math.max(1e-12, Math.hypot(...embedding));
  return Array.from(embedding, (value) => value / length);
}

// Pairs [row, column] of a least-cost assignment, as many as can be; infinite costs are forbidden. Rows are added one by
// one, each by the cheapest change of the pairs so far (Bellman and Ford's search, since a change may save).
export function assign(costs) {
  const columns = costs[0]?.length ?? 0, rowOf = new Map(); // column -> row
  // each row may have a column of its own instead, which costs more than all pairs together
  const alone = 1 + costs.flat().reduce((sum, cost) => sum + (cost < Infinity ? Math.abs(cost) : 0), 0);
  const padded = costs.map((row, number) => [...row, ...costs.map((_, other) => (other === number ? alone : Infinity))]);
  padded.forEach((_, row) => augment(padded, rowOf, row));
  const pairs = [...rowOf].filter(([column]) => column < columns).map(([column, row]) => [row, column]);
  return pairs.sort((one, other) => one[0] - other[0]);
}

function augment(costs, rowOf, start) {
  const count = costs[start].length, reached = new Array(count).fill(Infinity), before = new Array(count);
  for (let rows = [[start, 0]]; rows.length;) {
    const next = [];
    for (const [row, cost] of rows) {
      costs[row].forEach((own, column) => {
        if (cost + own >= reached[column] - 1e-12) return;
        reached[column] = cost + own;
        before[column] = row;
        const other = rowOf.get(column);
        if (other !== undefined) next.push([other, reached[column] - costs[other][column]]);
      });
    }
    rows = next;
  }
  const free = reached.map((cost, column) => (rowOf.has(column) ? Infinity : cost));
  const columnOf = new Map([...rowOf].map(([column, row]) => [row, column]));
  for (let column = free.indexOf(Math.min(...free)), row; row !== start; column = columnOf.get(row)) {
    row = before[column];
    rowOf.set(column, row);
  }
}
