"""The page's style sheet: system fonts, one accent, light and dark, paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1a1d21; --soft: #5d646d; --line: #e2e5e9; --wash: #f6f7f9; --accent: #0b5fb0;
  --best: #eaf3fc; --warn: #9a4a00;
  --c0: #0b6bbd; --c1: #d9730d; --c2: #1b8a5a; --c3: #b3367f; --c4: #6f5bd0; --c5: #947600;
    --c6: #0f8c99; --c7: #70757c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ad; --line: #2b3036; --wash: #1b1f23; --accent: #6cb2f5;
    --best: #18293a; --warn: #f0a860;
    --c0: #5aaef5; --c1: #f29a4a; --c2: #52c48f; --c3: #e77ab8; --c4: #a596f5; --c5: #d0b23c;
      --c6: #4cc3d0; --c7: #a2a8b0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
body > * { max-width: 1320px; margin-inline: auto; padding-inline: 24px; }
header { padding-block: 40px 8px; }
footer { padding-block: 24px 48px; color: var(--soft); font-size: 13px; }
h1 { font-size: 26px; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; margin: 0 0 4px; }
h2 { font-size: 20px; font-weight: 650; margin: 44px 0 10px; padding-top: 20px;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
header + section h2 { margin-top: 12px; border-top: 0; padding-top: 0; }
h3 { font-size: 16px; font-weight: 650; margin: 34px 0 4px; }
p { margin: 6px 0; max-width: 96ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav a { margin-right: 18px; }
.soft, figcaption { color: var(--soft); font-size: 13.5px; }
.answer { font-size: 18px; line-height: 1.5; margin: 12px 0 4px; padding: 14px 18px;
  background: var(--best); border-left: 3px solid var(--accent); border-radius: 4px; max-width: none; }
.answer.none { background: var(--wash); border-color: var(--soft); }
.bound { color: var(--warn); font-weight: 600; }
figure { margin: 8px 0 0; }
.scroll { overflow-x: auto; margin-top: 8px; }
.scroll:focus-visible, th:focus-visible, button:focus-visible, .dot:focus-visible,
  .bar:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; min-width: 100%; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 5px 8px; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; white-space: nowrap; }
thead th { white-space: normal; }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); vertical-align: bottom; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
.n { text-align: right; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
tbody tr:hover td { background: var(--wash); }
tr.best td, tbody tr.best:hover td { background: var(--best); }
tr.best td:first-child { box-shadow: inset 3px 0 var(--accent); }
td small { display: block; color: var(--soft); font-size: 11px; line-height: 1.2; white-space: pre; }
td.strong { color: var(--warn); font-weight: 600; }
th button { all: unset; cursor: pointer; font: inherit; position: relative; }
th button:hover { color: var(--ink); text-decoration: underline dotted; }
th button::after { position: absolute; bottom: 0; left: calc(100% + 1px); color: var(--accent); }
th.n button::after { left: auto; right: calc(100% + 1px); }
th[aria-sort=ascending] button::after { content: "\\2191"; }
th[aria-sort=descending] button::after { content: "\\2193"; }
.tools { display: flex; flex-wrap: wrap; gap: 10px; align-items: center; margin-top: 12px;
  font-size: 13.5px; color: var(--soft); }
.tools input, .save button { font: inherit; color: var(--ink); background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; padding: 5px 10px; }
.tools input { min-width: 0; width: 240px; }
.save button { cursor: pointer; }
pre { background: var(--wash); border-radius: 6px; padding: 12px 14px;
  font: 12.5px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
    white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0; }
ul { margin: 6px 0; padding-left: 20px; font-size: 13.5px; }
li { overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); font-size: 13.5px; margin-top: 8px; }
svg { display: block; width: 100%; min-width: 620px; max-width: 900px; height: auto; }
svg text { font-size: 12px; fill: var(--ink); }
svg .tick, svg .note, svg .value { fill: var(--soft); font-size: 11.5px; }
svg .axis-title { fill: var(--soft); font-size: 12px; font-weight: 600; }
svg .label { font-size: 11.5px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid { stroke: var(--line); }
.axis, .whisker { stroke: var(--soft); }
.front { fill: none; stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.dot { fill-opacity: .72; stroke: var(--paper); stroke-width: 1; }
.dot.hollow { fill: var(--paper); fill-opacity: .4; stroke-width: 2; stroke-dasharray: 3 2; }
.ring { fill: none; stroke-width: 2; }
.curve { fill: none; stroke-width: 2; }
.band { fill: var(--c0); opacity: .25; }
.box { fill: var(--c0); opacity: .75; }
.box.hollow { fill: var(--paper); stroke: var(--c0); stroke-dasharray: 3 2; opacity: 1; }
.median { stroke: var(--ink); stroke-width: 2; }
.target { fill: transparent; }
#hint { position: absolute; z-index: 2; max-width: min(320px, 90vw); padding: 6px 10px; margin: 0;
  border-radius: 6px; font-size: 12.5px; line-height: 1.4; background: var(--ink); color: var(--paper);
    pointer-events: none; }
[hidden] { display: none !important; }
@media (max-width: 640px) {
  body > * { padding-inline: 16px; }
  header { padding-top: 24px; }
  h1 { font-size: 22px; }
  .answer { font-size: 16px; padding: 12px 14px; }
}
@media print {
  :root { color-scheme: light; }
  .tools, .save, nav, #hint { display: none; }
  .scroll { overflow: visible; }
  svg { min-width: 0; max-width: 100%; }
  table { font-size: 9px; }
  th, td { padding: 3px 4px; white-space: normal; position: static !important; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
""" + "".join(
    f".dot.c{n},.bar.c{n},.key.c{n}{{fill:var(--c{n})}}.dot.hollow.c{n},.curve.c{n},.ring.c{n}{{stroke:var(--c{n})}}"
    f".curve.c{n},.ring.c{n}{{fill:none}}.dot.hollow.c{n}{{fill:var(--paper)}}\n"
    for n in range(8)
)
