"use strict";
(() => {
  const value = (row, index, numeric) => {
    const order = row.cells[index].dataset.order;
    return order === undefined ? null : numeric ? Number(order) : order;
  };
  const sort = (table, index, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = header.classList.contains("n");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, index, numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const way = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
      return down ? -way : way;
    });
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, index, header));
      header.append(button);
    });
  }

  for (const tools of document.querySelectorAll(".tools")) {
    const input = tools.querySelector("input");
    const rows = [...document.getElementById(tools.dataset.table).querySelectorAll("tbody tr")];
    const told = tools.querySelector("output");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      told.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    });
    tools.hidden = false;
  }

  const hint = document.getElementById("hint");
  const show = (mark, x, y) => {
    hint.textContent = mark.getAttribute("aria-label");
    hint.hidden = false;
    const right = document.documentElement.clientWidth - hint.offsetWidth - 8;
    hint.style.left = `${Math.max(8, Math.min(x + 12, right)) + window.scrollX}px`;
    hint.style.top = `${y + 16 + window.scrollY}px`;
  };
  const hide = () => { hint.hidden = true; };
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentNode;
    mark.setAttribute("aria-label", title.textContent);
    mark.setAttribute("tabindex", "0");
    mark.setAttribute("role", "img");
    title.remove();
    mark.addEventListener("pointermove", (event) => show(mark, event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hide);
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      show(mark, box.right, box.top);
    });
    mark.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  const save = document.getElementById("save");
  save?.addEventListener("click", () => {
    const rows = JSON.parse(document.getElementById("rows").textContent);
    const lines = rows.map((row) => JSON.stringify(row) + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines], { type: "application/jsonl" }));
    link.download = save.dataset.name ?? "results.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  if (save) save.parentNode.hidden = false;
})();
