"""Style and script of the evaluation page: system fonts, light and dark, paper; the look of the bench report."""

from __future__ import annotations

from edgefel.page_tables import SORT_TABLES

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1a1d21; --soft: #5d646d; --line: #e2e5e9; --wash: #f6f7f9; --accent: #0b5fb0;
  --best: #eaf3fc; --warn: #9a4a00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ad; --line: #2b3036; --wash: #1b1f23; --accent: #6cb2f5;
    --best: #18293a; --warn: #f0a860;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding-bottom: 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
body > * { max-width: 1200px; margin-inline: auto; }
body > :not(pre, figure, .scroll), figure, .scroll { padding-inline: 24px; }
header { padding-block: 40px 8px; }
h1 { font-size: 26px; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; margin: 0 0 4px; }
h2 { font-size: 20px; font-weight: 650; margin-block: 40px 8px; }
h3 { font-size: 16px; font-weight: 650; margin-block: 28px 4px; }
p { margin-block: 6px; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: 13.5px; }
.answer { font-size: 18px; line-height: 1.5; margin: 12px 0 4px; padding: 14px 18px;
  background: var(--best); border-left: 3px solid var(--accent); border-radius: 4px; }
figure { margin-block: 4px 0; }
img { display: block; max-width: 100%; height: auto; margin-top: 8px; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; padding: 6px; }
.scroll { overflow-x: auto; margin-top: 8px; }
.scroll:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); vertical-align: bottom;
  white-space: normal; }
th.n, td.n { text-align: right; padding: 5px 0 5px 18px; }
tbody tr:hover td { background: var(--wash); }
td.strong { color: var(--warn); font-weight: 600; }
th button { all: unset; cursor: pointer; font: inherit; position: relative; }
th button:hover { color: var(--ink); text-decoration: underline dotted; }
th button::after { position: absolute; bottom: 0; left: calc(100% + 1px); color: var(--accent); }
th.n button::after { left: auto; right: calc(100% + 1px); }
th[aria-sort=ascending] button::after { content: "\\2191"; }
th[aria-sort=descending] button::after { content: "\\2193"; }
pre { background: var(--wash); border-radius: 6px; padding: 12px 24px;
  font: 12.5px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  h1 { font-size: 22px; }
  .answer { font-size: 16px; }
}
@media print {
  :root { color-scheme: light; }
  body { padding: 0; }
  body > * { max-width: none; padding-inline: 0 !important; }
  header { padding-top: 0; }
  .scroll { overflow: visible; }
  table { font-size: 9px; }
  th, td, th.n, td.n { padding: 2px 4px; white-space: normal; }
  img { max-height: 22cm; border: 0; padding: 0; }
  figure, tr { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
}
"""

SCRIPT = f"""
"use strict";
(() => {{
{SORT_TABLES}}})();
"""
