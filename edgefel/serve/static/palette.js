// Colours of classes and of the theme, for canvases too: a probe resolves what CSS variables hold.

let labels = [];
let cache = new Map();
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
window.addEventListener("themechange", () => { cache = new Map(); });

export function setLabels(names) { labels = names; }
export function allLabels() { return labels; }

export function variableOf(label) {
  const number = labels.indexOf(label);
  return number < 0 ? "--soft" : `--c${number % 11}`;
}

export function colour(variable) {
  if (!cache.has(variable)) {
    probe.style.color = `var(${variable})`;
    cache.set(variable, getComputedStyle(probe).color);
  }
  return cache.get(variable);
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A canvas in CSS pixels, sharp on any screen. Returns its context, width and height.
export function canvasOf(canvas) {
  const scale = devicePixelRatio || 1, { clientWidth, clientHeight } = canvas;
  const width = Math.round(clientWidth * scale), height = Math.round(clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, clientWidth, clientHeight);
  return [context, clientWidth, clientHeight];
}
