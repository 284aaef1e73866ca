// Before the page is drawn: the chosen colours. A classic script, since modules run later.
"use strict";
(() => {
  const root = document.documentElement;
  const show = (value) => {
    if (value === "light" || value === "dark") root.dataset.theme = value;
    else delete root.dataset.theme;
    window.dispatchEvent(new Event("themechange"));
  };
  let kept = "auto";
  try { kept = localStorage.getItem("edgefel-theme") || "auto"; } catch { /* storage is switched off */ }
  show(kept);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("themechange")));
  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("#theme input")) {
      input.checked = input.value === kept;
      input.addEventListener("change", () => {
        try { localStorage.setItem("edgefel-theme", input.value); } catch { /* likewise */ }
        show(input.value);
      });
    }
  });
})();
