"use strict";
// Draws the hypervolume by generation.
function drawHistory(entries) {
  if (!entries.length) { byId("history-note").textContent = "No generation was recorded."; return; }
  const svg = byId("history");
  svg.replaceChildren();
  const frame = sized(svg, { left: 84, right: 14, top: 30, bottom: 50 });
  const whole = Math.max(...entries.map((entry) => entry.hypervolume)) || 1;
  const x = makeScale(entries.map((entry) => entry.generation), frame.left, frame.right, { count: 7 });
  const y = makeScale(entries.map((entry) => (100 * entry.hypervolume) / whole), frame.bottom, frame.top, { count: 4, most: 100 });
  x.ticks = x.ticks.filter((tick) => Number.isInteger(tick));
  // As many decimals as tell neighbouring ticks apart.
  const digits = y.ticks.length > 1 ? Math.max(0, Math.ceil(-Math.log10(y.ticks[1] - y.ticks[0]) - 1e-9)) : 0;
  drawAxes(svg, frame, x, y, { xText: short, yText: (tick) => `${tick.toFixed(digits)} %`, xTitle: "Generation", yTitle: "Hypervolume, share of the largest" });
  const d = entries.map((entry, i) => `${i ? "L" : "M"}${x.at(entry.generation).toFixed(1)} ${y.at((100 * entry.hypervolume) / whole).toFixed(1)}`).join("");
  svg.append(build("path", { class: "curve", d }));
  for (const entry of entries) {
    svg.append(build("circle", { class: "point", cx: x.at(entry.generation), cy: y.at((100 * entry.hypervolume) / whole), r: entries.length > 60 ? 1.6 : 3 },
      build("title", {}, `Generation ${entry.generation}: hypervolume ${entry.hypervolume.toPrecision(4)}, ${entry.front_size} on the front`)));
  }
  const [first, last] = [entries[0], entries[entries.length - 1]];
  const reached = entries.find((entry) => entry.hypervolume >= 0.99 * whole);
  byId("history-note").textContent = `The front grew from ${first.front_size} to ${last.front_size} networks. `
    + `99 % of the final hypervolume was reached in generation ${reached.generation} of ${last.generation}.`;
}
