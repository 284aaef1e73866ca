// Keeps the files of this folder for use offline, and gives them the headers that a static folder cannot: the page and
// its workers become cross-origin isolated, and may load nothing from elsewhere.
"use strict";

importScripts("files.js");
// files: kept at once. parts: of ONNX Runtime, of which a browser needs some; they are kept when they are used.
const { version, files, parts, headers } = self.EXPORTED;
const MINE = `edgefel-web ${registration.scope} `;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(MINE + version);
    await cache.addAll(["./", ...files].map((name) => new Request(new URL(name, registration.scope), { cache: "reload" })));
  };
  event.waitUntil(keep());
});

// A newer export waits for a page that is being opened, so that no page gets files of both.
self.addEventListener("message", ({ data }) => {
  if (data === "take over") self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const takeOver = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(MINE) && name !== MINE + version);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(takeOver());
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  event.respondWith(method === "GET" && url.startsWith(registration.scope) ? answer(event.request) : Response.error());
});

async function answer(request) {
  const name = new URL(request.url).pathname.slice(new URL(registration.scope).pathname.length);
  const known = name === "" || files.includes(name) || parts.includes(name);
  const cache = await caches.open(MINE + version);
  let found = known ? await cache.match(request, { ignoreSearch: true }) : undefined;
  if (!found) {
    found = await fetch(request);
    if (known && found.ok) await cache.put(request, found.clone());
  }
  const all = new Headers(found.headers);
  for (const [header, value] of Object.entries(headers)) all.set(header, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers: all });
}
