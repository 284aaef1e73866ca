// The page: sources, and what is shown of them. It is that of `edgefel serve` and of `edgefel export --web`, whose
// engines label elsewhere: in the server, and in the browser itself.

import { Images } from "./images.js";
import { Announcer, Numbers } from "./numbers.js";
import { clear, drawFaces } from "./overlay.js";
import { setLabels } from "./palette.js";
import { People } from "./people.js";

const byId = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1e3;
const video = byId("video"), picture = byId("picture"), overlay = byId("overlay"), frame = byId("frame");
const people = new People(byId("cards"), byId("nobody"));
const numbers = new Numbers(), announcer = new Announcer();
const HINTS = {
  camera: "Start the camera to see faces and their expressions here.",
  device: "Watch what the device's own camera sees.",
  images: "Open images, or drop them here.",
  video: "Open a video, or drop it here. It is read frame by frame in this browser.",
};

const LATE = 0.15; // seconds from a frame to its answer

let engine = null;
let running = null; // a stream of the engine
let shown = null; // the last answer: { faces, size, mirrored }
let kind = "camera";

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function shape(width, height) {
  if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
}

function show(element) {
  for (const one of [video, picture, byId("empty")]) one.hidden = one !== element;
}

function follow(answer, mirrored) {
  shown = { faces: answer.faces, size: [answer.width, answer.height], mirrored };
  drawFaces(overlay, shown.faces, shown.size, mirrored);
  people.follow(answer.faces, seconds());
  announcer.say(people.sentence(), seconds());
}

function stop(reason) {
  running?.stop();
  running = null;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  video.load();
  shown = null;
  clear(overlay);
  show(byId("empty"));
  button();
  if (reason) say(reason);
}

function button() {
  const start = byId("start"), open = byId("open");
  start.hidden = kind !== "camera" && kind !== "device" && !(kind === "video" && running);
  open.hidden = kind !== "images" && kind !== "video";
  start.textContent = running ? "Stop" : kind === "device" ? "Watch" : "Start camera";
  start.classList.toggle("on", running !== null);
  open.textContent = kind === "images" ? "Open images" : "Open a video";
  byId("files").accept = kind === "images" ? "image/*" : "video/*";
  byId("files").multiple = kind === "images";
  byId("numbers").hidden = document.querySelector(".stages").hidden = kind === "images";
  byId("strip").hidden = kind !== "images" || !byId("strip").childElementCount;
  byId("cameras").hidden = kind !== "camera" || byId("cameras").options.length < 2;
  byId("hint").textContent = HINTS[kind];
}

function begin() {
  say("");
  people.clear();
  numbers.reset(kind !== "device");
}

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    say("Browsers open the camera only over https, or on this machine at http://127.0.0.1 or http://localhost.");
    return;
  }
  begin();
  const wanted = byId("cameras").value;
  const device = wanted ? { deviceId: { exact: wanted } } : { facingMode: "user" };
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { ...device, width: { ideal: 1280 }, height: { ideal: 720 } },
    });
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The camera was not allowed; the browser's address bar has its switch."
      : error.name === "NotFoundError" ? "This machine has no camera." : `The camera cannot be opened: ${error.message}`);
    return;
  }
  await listCameras();
  const facing = video.srcObject.getVideoTracks()[0].getSettings().facingMode;
  await play(facing !== "environment");
}

async function listCameras() {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const list = byId("cameras"), before = list.value;
  list.replaceChildren(...found.map((one, number) => new Option(one.label || `Camera ${number + 1}`, one.deviceId)));
  if (found.some((one) => one.deviceId === before)) list.value = before;
}

function showFrame(image, mirrored) {
  picture.classList.toggle("mirrored", mirrored);
  picture.setAttribute("aria-label", "The frame that was labelled last");
  picture.width = image.width;
  picture.height = image.height;
  picture.getContext("2d").drawImage(image, 0, 0);
  // over the video, which goes on: a hidden one may not be decoded
  picture.hidden = false;
}

async function play(mirrored) {
  video.classList.toggle("mirrored", mirrored);
  show(video);
  await video.play();
  shape(video.videoWidth, video.videoHeight);
  let lag = 0;
  running = engine.follow(video, (answer, roundTrip, dropped, labelled) => {
    lag += 0.2 * (roundTrip - lag);
    // boxes of a frame of long ago do not fit the one of now: then the labelled frame is shown
    if (lag > LATE) showFrame(labelled, mirrored);
    else picture.hidden = true;
    follow(answer, mirrored);
    numbers.add(answer, seconds(), roundTrip, dropped);
  }, stop);
  button();
}

async function startVideo(file) {
  stop();
  begin();
  video.src = URL.createObjectURL(file);
  video.loop = false;
  video.onended = () => { if (kind === "video") stop(); };
  try {
    await play(false);
  } catch {
    stop("This browser cannot play the video; 'edgefel predict' may read it.");
  }
}

function startDevice() {
  begin();
  picture.classList.remove("mirrored");
  show(picture);
  running = engine.watch(picture, (answer) => {
    shape(answer.width, answer.height);
    follow(answer, false);
    numbers.add(answer, seconds(), answer.latency_ms / 1e3, answer.dropped);
  }, stop);
  button();
}

const images = new Images(byId("strip"), (image, result) => {
  show(picture);
  showFrame(image, false);
  picture.setAttribute("aria-label", `${result.source}: ${result.faces.length} faces`);
  shape(image.width, image.height);
  shown = { faces: result.faces, size: [result.width, result.height], mirrored: false };
  drawFaces(overlay, shown.faces, shown.size, false);
  people.list_of(result.faces);
}, say, (file) => engine.label(file));

async function take(files) {
  if (!files.length) return;
  if (kind === "video") return startVideo(files[0]);
  say("");
  byId("open").disabled = true;
  await images.add([...files]);
  byId("open").disabled = false;
  button();
}

function setUp() {
  byId("start").addEventListener("click", () => {
    if (running) return stop();
    return kind === "device" ? startDevice() : startCamera();
  });
  byId("open").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", async (event) => {
    await take(event.target.files);
    event.target.value = "";
  });
  byId("cameras").addEventListener("change", () => { stop(); startCamera(); });
  for (const input of document.querySelectorAll("#source input")) {
    input.addEventListener("change", () => {
      stop();
      say("");
      people.clear();
      images.clear();
      kind = input.value;
      button();
    });
  }
  for (const type of ["dragover", "dragleave", "drop"]) {
    frame.addEventListener(type, (event) => {
      if (kind !== "images" && kind !== "video") return;
      event.preventDefault();
      frame.classList.toggle("over", type === "dragover");
      if (type === "drop") take(event.dataTransfer.files);
    });
  }
  const redraw = () => {
    if (shown) drawFaces(overlay, shown.faces, shown.size, shown.mirrored);
  };
  new ResizeObserver(redraw).observe(frame);
  window.addEventListener("themechange", redraw);
  const tick = () => { people.tick(seconds()); requestAnimationFrame(tick); };
  tick();
}

// chosen: an engine of these functions. describe(): { labels, text, live }, where `live` is what `watch` shows, in words, or
// null. label(file): the faces of an image. follow(video, onAnswer, onEnd), watch(canvas, onAnswer, onEnd): streams, with a
// function `stop`.
export async function openPage(chosen) {
  engine = chosen;
  setUp();
  button();
  try {
    const { labels, text, live = null } = await engine.describe();
    setLabels(labels);
    byId("model").textContent = text;
    if (live !== null) {
      byId("has-device").hidden = false;
      HINTS.device = `Watch ${live}.`;
    }
  } catch (error) {
    say(error.message);
  }
}
