// Lets the service worker take over: it keeps the files for use offline, and gives them the headers that make the page
// cross-origin isolated, which threads need and a static folder cannot ask for.

const PATIENCE = 20_000; // milliseconds
const TRIED = "edgefel-isolation";

// Returns whether the page works offline, in words. The first time the page is loaded again, through the service worker.
export async function becomeIsolated(tell) {
  const container = navigator.serviceWorker;
  if (!container) return `no: ${isSecureContext ? "this browser has no service worker" : "only over https or on localhost"}`;
  try {
    tell("Keeping the page for use offline");
    await container.register(new URL("../service-worker.js", import.meta.url));
    await inTime(controlled(container));
  } catch (error) {
    return `no: ${error.message}`;
  }
  if (!crossOriginIsolated && !tried()) {
    location.reload();
    await new Promise(() => null);
  }
  return "yes, once it is loaded";
}

function controlled(container) {
  if (container.controller) return null;
  return new Promise((resolve) => container.addEventListener("controllerchange", resolve, { once: true }));
}

function inTime(promise) {
  const late = (_, reject) => setTimeout(() => reject(new Error("the service worker does not start")), PATIENCE);
  return Promise.race([promise, new Promise(late)]);
}

// Whether it was loaded again already: once, or it would never end.
function tried() {
  try {
    if (sessionStorage.getItem(TRIED)) return true;
    sessionStorage.setItem(TRIED, "yes");
    return false;
  } catch {
    return true; // storage is switched off
  }
}
