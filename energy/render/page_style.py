"""Style and script of the HTML report; both are embedded in the file."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --fill: #f6f8fa; --blue: #0b5cad; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  margin: 0; background: #fff; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 28px 80px; }
header { border-bottom: 3px solid var(--blue); padding-bottom: 14px; margin-bottom: 18px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 38px 0 8px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 6px 0; max-width: 92ch; }
.soft, figcaption, .note { color: var(--soft); font-size: 13px; }
nav { font-size: 13px; margin: 10px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; background: var(--fill);
  min-width: 200px; flex: 1; }
.card b { display: block; font-size: 22px; font-weight: 600; white-space: nowrap; }
.card span { font-size: 12.5px; color: var(--soft); }
.warn { border-left: 4px solid #bf5b04; background: #fff6ec; padding: 8px 14px; margin: 12px 0; font-size: 14px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 12.8px; font-variant-numeric: tabular-nums; }
th { background: var(--fill); text-align: left; vertical-align: bottom; cursor: pointer; user-select: none;
  font-weight: 600; border-bottom: 1px solid var(--line); padding: 6px 9px; }
th:hover { background: #e9eef4; }
th.up::after { content: " \\2191"; color: var(--blue); }
th.down::after { content: " \\2193"; color: var(--blue); }
td { padding: 4px 9px; border-bottom: 1px solid #eef1f4; vertical-align: top; }
th.r, td.r { text-align: right; }
td.r { white-space: nowrap; }
tbody tr:hover { background: #f3f8fd; }
tbody tr:last-child td { border-bottom: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); gap: 4px 36px;
  align-items: start; }
figure { margin: 12px 0 14px; }
figure svg { max-width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; font-size: 13.5px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 16px 14px 48px; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; }
  figure { overflow-x: auto; }
  figure svg { max-width: none; }
}
@media print { nav { display: none; } .scroll { overflow: visible; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, i) => {
    head.onclick = () => {
      const down = !head.classList.contains("down");
      heads.forEach(h => h.classList.remove("up", "down"));
      head.classList.add(down ? "down" : "up");
      const key = row => row.cells[i].dataset.v;
      const order = (a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const numbers = !isNaN(x) && !isNaN(y);
        return (numbers ? x - y : x.localeCompare(y, "en", {numeric: true})) * (down ? -1 : 1);
      };
      [...table.tBodies[0].rows].sort(order).forEach(row => table.tBodies[0].append(row));
    };
  });
}
"""
