// Keeps the files of this folder for use offline, and gives them the headers that a static folder cannot: the page and
// its workers become cross-origin isolated, and may load nothing from elsewhere.
"use strict";

importScripts("files.js");
const { version, files, headers } = self.EXPORTED;
const MINE = `edgefel-web ${registration.scope} `;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(MINE + version);
    await cache.addAll(["./", ...files].map((name) => new Request(new URL(name, registration.scope), { cache: "reload" })));
    await self.skipWaiting();
  };
  event.waitUntil(keep());
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
  const cache = await caches.open(MINE + version);
  let found = await cache.match(request, { ignoreSearch: true });
  if (!found) {
    found = await fetch(request);
    // the runtime's files, of which a browser needs some
    if (found.ok) await cache.put(request, found.clone());
  }
  const all = new Headers(found.headers);
  for (const [name, value] of Object.entries(headers)) all.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers: all });
}
