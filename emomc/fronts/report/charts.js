"use strict";
// Helpers to build elements, format numbers and draw axes. Text is added as text nodes only, never as markup.

function build(tag, attributes, ...children) {
  const svg = ["svg", "g", "path", "line", "circle", "rect", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, action] of Object.entries(value)) node.addEventListener(event, action);
    else if (name === "width" && !svg) node.style.width = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

const byId = (id) => document.getElementById(id);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function short(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return size < 1e-5 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

// Three significant digits with trailing zeros, for columns of numbers.
const exact = (value) => (isNumber(value) && Math.abs(value) >= 1e-5 && Math.abs(value) < 1000 ? value.toPrecision(3) : short(value));

// Keep a number and its unit on one line.
const joined = (text) => text.replace(/ (%|mJ|KiB|ms|times)/g, "\u00a0$1");

const percent = (fraction, digits = 2) => (isNumber(fraction) ? `${(100 * fraction).toFixed(digits)} %` : "–");

// Returns how a quality is written: an accuracy in percent, another metric in its own unit.
function qualityText(metric) {
  if (!metric) return percent;
  const [worst, best] = metric.mode === "max" ? [metric.low, metric.high] : [metric.high, metric.low];
  return (quality) => (isNumber(quality) ? String(Number((worst + quality * (best - worst)).toPrecision(4))) : "–");
}

function times(before, now) {
  if (!(before > 0) || !(now > 0)) return "";
  return before >= now ? `${short(before / now)}× less` : `${short(now / before)}× more`;
}

function linearTicks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  if (!(raw > 0)) return [low];
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  const decades = Math.log10(high / low);
  const digits = decades > 3 ? [1] : decades > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d += 1) {
    for (const m of digits) {
      const tick = m * 10 ** d;
      if (tick >= low * 0.9999 && tick <= high * 1.0001) ticks.push(tick);
    }
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, 5);
}

// A scale maps a value to a coordinate: {at(value), ticks}.
function makeScale(values, start, end, options = {}) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  const log = options.log && low > 0;
  if (low === high) {
    const pad = low === 0 ? 1 : Math.abs(low) * 0.1;
    low -= pad;
    high += pad;
  } else if (log) {
    const pad = (high / low) ** 0.05;
    low /= pad;
    high *= pad;
  } else {
    const pad = (high - low) * 0.06;
    low = low >= 0 ? Math.max(0, low - pad) : low - pad;
    high += pad;
  }
  if (isNumber(options.most)) high = Math.min(high, Math.max(options.most, Math.max(...values)));
  const place = log ? Math.log : (value) => value;
  const at = (value) => start + ((place(value) - place(low)) / (place(high) - place(low))) * (end - start);
  return { at, low, high, ticks: log ? logTicks(low, high) : linearTicks(low, high, options.count || 6) };
}

// Gives a drawing the size of its place on the page, so that its letters are as large as those of the page.
function sized(svg, margins) {
  const { width, height } = svg.getBoundingClientRect();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return { left: margins.left, right: width - margins.right, top: margins.top, bottom: height - margins.bottom };
}

// Draws again whenever the place of a drawing gets another size.
function redrawWhenResized(svg, draw) {
  let [width, height] = [svg.clientWidth, svg.clientHeight];
  new ResizeObserver(() => {
    if (svg.clientWidth === width && svg.clientHeight === height) return;
    [width, height] = [svg.clientWidth, svg.clientHeight];
    draw();
  }).observe(svg.parentElement);
}

function drawAxes(svg, box, x, y, options) {
  let free = -Infinity;
  for (const tick of x.ticks) {
    svg.append(build("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: box.top, y2: box.bottom }));
    // A label that would touch the one before is left out; the line of its tick stays.
    const text = options.xText(tick);
    const half = 4 * text.length + 3;
    if (x.at(tick) - half < free) continue;
    free = x.at(tick) + half;
    svg.append(build("text", { x: x.at(tick), y: box.bottom + 19, "text-anchor": "middle" }, text));
  }
  for (const tick of y.ticks) {
    svg.append(build("line", { class: "grid", x1: box.left, x2: box.right, y1: y.at(tick), y2: y.at(tick) }));
    svg.append(build("text", { x: box.left - 8, y: y.at(tick) + 4, "text-anchor": "end" }, options.yText(tick)));
  }
  svg.append(build("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  svg.append(build("line", { class: "axis", x1: box.left, x2: box.left, y1: box.top, y2: box.bottom }));
  const middle = (box.left + box.right) / 2;
  svg.append(build("text", { class: "strong", x: middle, y: box.bottom + 41, "text-anchor": "middle" }, options.xTitle));
  svg.append(build("text", { class: "strong", x: 4, y: box.top - 12 }, options.yTitle));
}
