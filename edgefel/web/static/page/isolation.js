// Lets the service worker take over: it keeps the files for use offline, and gives them the headers that make the page
// cross-origin isolated, which threads need and a static folder cannot ask for.

const TRIED = "edgefel-isolation";
// Milliseconds in which a service worker takes over: the first one, and a newer one, which may have to wait for the old.
const FIRST = 20_000, NEWER = 5_000;

// Returns whether the page works offline, in words. The first time, and when there is a newer export, the page is loaded
// again, through the service worker.
export async function becomeIsolated(tell) {
  const container = navigator.serviceWorker;
  if (!container) return `no: ${isSecureContext ? "this browser has no service worker" : "only over https or on localhost"}`;
  tell("Keeping the page for use offline");
  try {
    const script = new URL("../service-worker.js", import.meta.url);
    const { active, waiting } = await container.register(script, { updateViaCache: "none" });
    // one that has begun controls every page but those that are loaded without it, with Shift
    const passedBy = active?.state === "activated" && !container.controller;
    if (!container.controller && !passedBy) await inTime(takenOver(container), FIRST);
    else if (waiting) await replaced(container, waiting);
  } catch (error) {
    return `no: ${error.message}`;
  }
  if ((!crossOriginIsolated || !container.controller) && !tried()) await loadAgain();
  return container.controller ? "yes, once it is loaded" : "no: the page was loaded without its service worker";
}

async function replaced(container, waiting) {
  const taken = takenOver(container);
  waiting.postMessage("take over");
  try {
    await inTime(taken, NEWER);
  } catch {
    return; // the next time, then
  }
  await loadAgain();
}

function loadAgain() {
  location.reload();
  return new Promise(() => null);
}

function takenOver(container) {
  return new Promise((resolve) => container.addEventListener("controllerchange", resolve, { once: true }));
}

function inTime(promise, milliseconds) {
  const late = (_, reject) => setTimeout(() => reject(new Error("the service worker does not start")), milliseconds);
  return Promise.race([promise, new Promise(late)]);
}

// Whether it was loaded again just now: once, or it would never end.
function tried() {
  try {
    const before = Number(sessionStorage.getItem(TRIED));
    sessionStorage.setItem(TRIED, String(Date.now()));
    return Date.now() - before < FIRST;
  } catch {
    return true; // storage is switched off
  }
}
