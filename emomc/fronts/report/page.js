"use strict";
(() => {
  const { front, picks, intervals, costs, labels } = JSON.parse(byId("data").textContent);
  const { points, baseline, layers } = front;
  const parts = labels.energy_parts;
  const { topLayer, drawLayers } = layerView(layers, parts, front.energy_unit);
  // Turn the lists in layer and part order back into maps from names.
  const named = (names, values) => values && Object.fromEntries(names.map((name, n) => [name, values[n]]));
  for (const point of points) {
    for (const key of ["bits", "activation_bits", "density", "bytes_by_layer", "next_bit_cost"]) point[key] = named(layers, point[key]);
    const energy = point.energy_by_layer;
    point.energy_by_layer = energy && named(layers, energy.map((values) => named(Object.keys(parts), values)));
  }
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const metric = front.metric;
  const reached = qualityText(metric);
  const measures = {
    level: { name: "Weights remaining", unit: "%", text: short },
    validation_accuracy: { name: metric ? metric.name : "Validation accuracy", unit: "", text: reached, accuracy: "validation" },
    test_accuracy: { name: metric ? `${metric.name} on test data` : "Test accuracy", unit: "", text: reached, accuracy: "test" },
  };
  for (const [key, { name, unit }] of Object.entries(labels.costs)) {
    // If name and unit are the same word, show it once.
    measures[key] = name === unit
      ? { name: capital(name), unit: "", text: short }
      : { name: capital(name), unit: key === "energy_mj" ? front.energy_unit : unit, text: exact };
  }
  const present = (key) => points.every((point) => isNumber(point[key]));
  const costKeys = Object.keys(labels.costs).filter(present);
  const accuracyKeys = ["validation_accuracy", "test_accuracy"].filter(present);
  const amount = (key, value) => `${measures[key].text(value)} ${measures[key].unit}`.trim();
  const label = (key) => (measures[key].unit ? `${measures[key].name} (${measures[key].unit})` : measures[key].name);
  // The first pick is that of the default rule.
  const recommended = picks[0];
  const flow = (name) => labels.dataflows[name] || name;
  // Very inaccurate networks would compress the useful range: at first show only those within 5 points of uncompressed.
  const above = (floor) => points.filter((point) => point.validation_accuracy >= baseline.validation_accuracy - floor / 100).length;
  const closeUp = above(40) < points.length && 2 * above(5) >= points.length ? 5 : null;
  const state = { selected: 0, hovered: null, x: costs[0] || costKeys[0], y: "validation_accuracy", log: false, below: closeUp, sort: null, pattern: "" };
  const patterns = [...new Set(points.map((point) => point.pattern))];
  const hasPattern = (i) => !state.pattern || points[i].pattern === state.pattern;

  function within(kind, position) {
    const ends = position === null ? intervals.baseline[kind] : intervals.points[position][kind];
    return ends ? `${(100 * ends[0]).toFixed(1)} to ${percent(ends[1], 1)}` : "";
  }

  function interval95(column, i) {
    const kind = (measures[column] || {}).accuracy;
    return kind && intervals.points[i][kind] ? `95 % confidence interval: ${within(kind, i)}` : null;
  }

  // ---- head -----------------------------------------------------------------------------------------------------
  function drawHead() {
    const others = front.objectives.filter((name) => name !== "accuracy");
    const last = front.history[front.history.length - 1];
    const made = last && isNumber(last.evaluations) ? `, found with ${short(last.evaluations)} evaluations` : "";
    const count = points.length === 1 ? "One compressed network" : `${points.length} compressed networks`;
    byId("summary").textContent = `${count} of ${front.network}${others.length ? ` that trade ${metric ? metric.name : "accuracy"} against ${others.join(" and ")}` : ""}${made}. `
      + `Point ${recommended.index} is recommended; choose another by what you need, or click a point.`;
    const chips = { hardware: front.hardware, dataflow: flow(front.dataflow), coding: labels.codings[front.coding] || front.coding, accounting: front.accounting };
    for (const [name, value] of Object.entries(chips)) byId("chips").append(build("span", {}, build("b", {}, name), value));
    if (!front.finished) byId("chips").append(build("span", { class: "warning" }, "the search had not finished"));
  }

  // ---- the front ------------------------------------------------------------------------------------------------
  let box = null;
  let marks = [];

  function drawChart() {
    const svg = byId("chart");
    svg.replaceChildren();
    box = sized(svg, { left: 66, right: 16, top: 34, bottom: 54 });
    marks = [];
    const shown = points.map((_, i) => i).filter((i) => inRange(i) && hasPattern(i));
    const visible = shown.length ? shown : points.map((_, i) => i).filter(hasPattern);
    const baseX = state.x === "level" ? 100 : baseline[state.x];
    const baseY = baseline[state.y];
    const xs = visible.map((i) => points[i][state.x]).concat(isNumber(baseX) ? [baseX] : []);
    const ys = visible.map((i) => points[i][state.y]).concat(isNumber(baseY) ? [baseY] : []);
    const x = makeScale(xs, box.left, box.right, { log: state.log, count: Math.max(3, Math.round((box.right - box.left) / 95)) });
    const y = makeScale(ys, box.bottom, box.top, { most: metric ? Infinity : 1, count: Math.max(3, Math.round((box.bottom - box.top) / 64)) });
    const digits = y.high - y.low > 0.06 ? 0 : y.high - y.low > 0.006 ? 1 : 2;
    drawAxes(svg, box, x, y, {
      xText: short, yText: (tick) => reached(tick, digits), xTitle: label(state.x), yTitle: label(state.y),
    });
    if (isNumber(baseY)) {
      svg.append(build("line", { class: "baseline", x1: box.left, x2: box.right, y1: y.at(baseY), y2: y.at(baseY) }));
    }
    drawAttained(svg, visible, x, y);
    if (isNumber(baseX) && isNumber(baseY)) {
      svg.append(build("rect", { class: "baseline-mark", x: x.at(baseX) - 5, y: y.at(baseY) - 5, width: 10, height: 10 },
        build("title", {}, `Uncompressed: ${reached(baseY)} for ${amount(state.x, baseX)}`)));
      // Above the line, unless the label of the recommended point is there.
      const above = Math.abs(y.at(points[recommended.position][state.y]) + 21 - (y.at(baseY) - 10)) > 16;
      svg.append(build("text", { class: "label", x: x.at(baseX) - 9, y: y.at(baseY) + (above ? -10 : 20), "text-anchor": "end" }, "uncompressed"));
    }
    const order = visible.slice().sort((a, b) => points[a][state.x] - points[b][state.x]);
    const whiskers = svg.appendChild(build("g", { id: "whiskers" }));
    for (const i of order) {
      const place = { i, x: x.at(points[i][state.x]), y: y.at(points[i][state.y]) };
      const best = recommended.position === i;
      const shape = best
        ? { d: `M${place.x} ${place.y - 8}l8 8l-8 8l-8 -8z` }
        : { cx: place.x, cy: place.y, r: 5.2 };
      const node = build(best ? "path" : "circle", {
        ...shape, class: best ? "point recommended" : "point", tabindex: 0, role: "button", "data-index": points[i].index,
        "aria-label": `Point ${points[i].index}: ${reached(points[i][state.y])} ${measures[state.y].name}, ${amount(state.x, points[i][state.x])}`,
        on: {
          click: () => select(i),
          focus: () => hover(i),
          blur: () => hover(null),
          keydown: (event) => {
            if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(i); }
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            const next = step && marks[marks.findIndex((mark) => mark.i === i) + step];
            if (next) { event.preventDefault(); next.node.focus(); }
          },
        },
      });
      svg.append(node);
      marks.push({ ...place, node });
      if (best) {
        const left = place.x + 105 > box.right;
        svg.append(build("text", { class: "strong label", x: place.x + (left ? -12 : 12), y: place.y + 21, "text-anchor": left ? "end" : "start" }, "recommended"));
      }
    }
    // The ring of the selected point is drawn above all points; it is not a point itself, so the tab order does not change.
    const ring = svg.appendChild(build("circle", { class: "ring", r: 10 }));
    Object.assign(drawChart, { yScale: y, whiskers, ring });
    const hidden = points.filter((_, i) => hasPattern(i)).length - visible.length;
    const better = costs.length > 1 || !costs.includes(state.x);
    byId("chart-note").textContent = `The line shows the best ${metric ? metric.name : "accuracy"} for a cost up to here; the dashed line and the square are the uncompressed network.`
      + (state.y === "test_accuracy" ? " The search never saw the test images, so here some points may lie below the line." : "")
      + (state.y !== "test_accuracy" && better ? " Points below the line are better in another objective." : "")
      + (hidden ? ` ${hidden} less accurate points are out of range.` : "");
    mark();
  }

  function inRange(i) {
    return state.below === null || points[i][state.y] >= baseline.validation_accuracy - state.below / 100;
  }

  function drawAttained(svg, visible, x, y) {
    const order = visible.slice().sort((a, b) => points[a][state.x] - points[b][state.x] || points[b][state.y] - points[a][state.y]);
    let best = -Infinity;
    let path = "";
    for (const i of order) {
      const value = points[i][state.y];
      if (value <= best) continue;
      const px = x.at(points[i][state.x]).toFixed(1);
      path += path ? `H${px}V${y.at(value).toFixed(1)}` : `M${px} ${y.at(value).toFixed(1)}`;
      best = value;
    }
    const end = x.at(Math.max(...visible.map((i) => points[i][state.x]))).toFixed(1);
    svg.append(build("path", { class: "attained", d: `${path}H${end}` }));
  }

  function mark() {
    drawChart.whiskers.replaceChildren();
    const chosen = marks.find(({ i }) => i === state.selected);
    drawChart.ring.setAttribute("visibility", chosen ? "visible" : "hidden");
    if (chosen) for (const [name, value] of [["cx", chosen.x], ["cy", chosen.y]]) drawChart.ring.setAttribute(name, value);
    for (const { i, x, node } of marks) {
      node.classList.toggle("selected", i === state.selected);
      node.classList.toggle("hovered", i === state.hovered);
      const ends = intervals.points[i][measures[state.y].accuracy];
      if (ends && (i === state.selected || i === state.hovered)) {
        const clamp = (value) => Math.min(Math.max(drawChart.yScale.at(value), box.top - 6), box.bottom);
        drawChart.whiskers.append(build("line", { class: "whisker", x1: x, x2: x, y1: clamp(ends[0]), y2: clamp(ends[1]) }));
      }
    }
  }

  function hover(i) {
    state.hovered = i;
    const tip = byId("tooltip");
    tip.hidden = i === null;
    mark();
    if (i === null) return;
    const point = points[i];
    const rows = [...accuracyKeys, ...costKeys].flatMap((key) => {
      const relation = costKeys.includes(key) ? times(baseline[key], point[key]) : within(measures[key].accuracy, i);
      return [build("dt", {}, measures[key].name), build("dd", {}, amount(key, point[key]), relation ? ` (${relation})` : "")];
    });
    tip.replaceChildren(
      build("strong", {}, `Point ${point.index} · ${point.pattern === "unstructured" ? `${point.level_label} of weights remaining` : point.level_label}`),
      build("dl", {}, rows),
      bitsByLayer("bits", point.bits),
      point.activation_bits ? bitsByLayer("bits of inputs", point.activation_bits) : null,
    );
    const at = marks.find((m) => m.i === i);
    const frame = byId("chart").getBoundingClientRect();
    const left = at.x + 16;
    const flip = left + tip.offsetWidth > frame.width;
    tip.style.left = `${Math.max(0, flip ? at.x - tip.offsetWidth - 16 : left)}px`;
    tip.style.top = `${Math.max(0, Math.min(at.y - 30, frame.height - tip.offsetHeight))}px`;
  }

  function bitsByLayer(what, bits) {
    return layers.length > 12
      ? build("div", { class: "bits many" }, `${what} in forward order:`, layers.map((name) => build("b", { class: "bare" }, String(bits[name]))))
      : build("div", { class: "bits" }, `${what}:`, layers.map((name) => build("span", {}, name, build("b", {}, String(bits[name])))));
  }

  function nearestTo(event) {
    const frame = byId("chart").getBoundingClientRect();
    const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
    let best = null;
    for (const m of marks) {
      const distance = Math.hypot(m.x - px, m.y - py);
      if (distance < 24 && (best === null || distance < best.distance)) best = { distance, i: m.i };
    }
    return best && best.i;
  }

  // ---- picks and budget -----------------------------------------------------------------------------------------
  function drawPicks() {
    for (const pick of picks) {
      const first = pick === recommended;
      byId("picks").append(build("button", { type: "button", "data-rule": pick.rule, class: first ? "recommended" : null, on: { click: () => select(pick.position) } },
        first ? build("span", { class: "badge" }, "Recommended") : null, build("b", {}, pick.name, build("span", {}, `point ${pick.index}`)), joined(pick.reason), build("small", {}, joined(inShort(points[pick.position])))));
    }
    byId("picks").append(build("p", { class: "note" }, accuracyKeys.includes("test_accuracy")
      ? `Chosen by ${metric ? metric.name : "validation accuracy"}. The result on test data, here its change against the uncompressed network, only reports.`
      : `Chosen by ${metric ? metric.name : "validation accuracy"}, here with its change against the uncompressed network.`));
    for (const key of costKeys) {
      const tenth = baseline[key] > 0 ? `${short(baseline[key] / 10)} or 10%` : "";
      byId("budget").append(build("label", {}, build("span", {}, `${measures[key].name} at most`),
        build("input", { type: "text", "data-key": key, placeholder: tenth, on: { input: applyBudget } }), build("span", {}, measures[key].unit)));
    }
    byId("budget-answer").textContent = "A number, or a percentage of the uncompressed network.";
  }

  // The change in accuracy, and the layer that takes the most energy.
  function inShort(point) {
    const key = accuracyKeys.includes("test_accuracy") && isNumber(baseline.test_accuracy) ? "test_accuracy" : "validation_accuracy";
    const text = `${measures[key].name}: ${change(point, key)}.`;
    const top = topLayer(point);
    return top ? `${text} Most energy: ${top.name}, ${percent(top.share, 0)}.` : text;
  }

  function change(point, key) {
    const points_ = 100 * (point[key] - baseline[key]);
    if (metric) return `${points_ < 0 ? "worse" : "better"} by ${short(Math.abs(points_))} % of its range`;
    const size = Math.abs(points_).toFixed(2);
    return Number(size) === 0 ? "the same" : `${points_ < 0 ? "−" : "+"}${size} points`;
  }

  function applyBudget() {
    const answer = byId("budget-answer");
    const limits = [];
    for (const input of document.querySelectorAll("#budget input")) {
      const text = input.value.trim().replace(",", ".");
      if (!text) continue;
      const match = /^(\d*\.?\d+(?:e[+-]?\d+)?)\s*(%?)$/i.exec(text);
      const base = baseline[input.dataset.key];
      if (!match || (match[2] && !(base > 0))) {
        answer.textContent = `Expected a number or a percentage, found “${text}”.`;
        return;
      }
      limits.push([input.dataset.key, match[2] ? (base * Number(match[1])) / 100 : Number(match[1])]);
    }
    if (!limits.length) { answer.textContent = "A number, or a percentage of the uncompressed network."; return; }
    const excess = (point) => Math.max(...limits.map(([key, limit]) => (limit > 0 ? point[key] / limit : Infinity)));
    const cost = state.x in baseline ? state.x : costKeys[0];
    const better = (a, b) => points[b].validation_accuracy - points[a].validation_accuracy || points[a][cost] - points[b][cost];
    const all = points.map((_, i) => i);
    const meeting = all.filter((i) => limits.every(([key, limit]) => points[i][key] <= limit)).sort(better);
    const wanted = limits.map(([key, limit]) => `at most ${amount(key, limit)}`).join(" and ");
    const chosen = meeting.length ? meeting[0] : all.reduce((a, b) => (excess(points[b]) < excess(points[a]) ? b : a));
    const has = limits.map(([key]) => amount(key, points[chosen][key])).join(" and ");
    const what = `${reached(points[chosen].validation_accuracy)} ${metric ? metric.name : "validation accuracy"} for ${has}`;
    answer.textContent = joined(meeting.length
      ? `Point ${points[chosen].index} is ${metric ? "the best" : "the most accurate"} that needs ${wanted}: ${what}.`
      : `No network of this front needs ${wanted}; the nearest is point ${points[chosen].index}: ${what}.`);
    select(chosen);
  }

  // ---- the selected point ---------------------------------------------------------------------------------------
  function select(i) {
    state.selected = i;
    const point = points[i];
    if (!inRange(i)) {
      state.below = null;
      byId("y-range").value = "";
      drawChart();
    }
    byId("selected-title").textContent = `Point ${point.index}`;
    byId("selected-level").replaceChildren(...(i === recommended.position ? [build("span", { class: "badge" }, "recommended"), " "] : []), `library level ${point.level_label}${point.dataflow ? `, dataflow ${flow(point.dataflow)}` : ""}`);
    for (const button of document.querySelectorAll("#picks button")) {
      const pick = picks.find((p) => p.rule === button.dataset.rule);
      button.classList.toggle("current", pick.position === i);
    }
    for (const row of document.querySelectorAll("#points tbody tr")) {
      row.classList.toggle("current", Number(row.dataset.position) === i);
      if (Number(row.dataset.position) === i) scrollTo(row);
    }
    drawComparison(point, i);
    drawLayers(point);
    mark();
    try { history.replaceState(null, "", `#point=${point.index}`); } catch { /* pages without an address cannot store the selection */ }
  }

  // Scrolls a row into view within its table, without moving the page.
  function scrollTo(row) {
    const window_ = row.closest(".tall");
    const [top, bottom] = [window_.scrollTop + 30, window_.scrollTop + window_.clientHeight - row.offsetHeight];
    if (row.offsetTop < top || row.offsetTop > bottom) window_.scrollTop = row.offsetTop - window_.clientHeight / 2;
  }

  const kib = (bytes) => `${short(bytes / 1024)} KiB`;

  function drawComparison(point, i) {
    const rows = accuracyKeys.map((key) => {
      const kind = measures[key].accuracy;
      return [measures[key].name, reached(point[key]), within(kind, i), reached(baseline[key]), within(kind, null),
        isNumber(baseline[key]) ? change(point, key) : ""];
    }).concat(costKeys.map((key) => [measures[key].name, amount(key, point[key]), "", amount(key, baseline[key]), "", times(baseline[key], point[key])]))
      .concat(Object.entries(labels.memory).filter(([key]) => isNumber(point[key])).map(([key, name]) =>
        [name, kib(point[key]), `arithmetic ${point.c_arithmetic}`, isNumber(baseline[key]) ? kib(baseline[key]) : "", baseline.c_arithmetic ? `arithmetic ${baseline.c_arithmetic}` : "", times(baseline[key], point[key])]));
    byId("comparison").replaceChildren(
      build("thead", {}, build("tr", {}, ["", "this network", "uncompressed", "change"].map((text) => build("th", {}, text)))),
      build("tbody", {}, rows.map(([name, value, note, before, beforeNote, change]) => build("tr", {},
        build("td", {}, name), build("td", {}, build("span", { class: "value" }, value), note ? build("small", {}, note) : null),
        build("td", {}, before, beforeNote ? build("small", {}, beforeNote) : null), build("td", {}, change)))),
    );
    byId("baseline-note").textContent = `Uncompressed: the same trained ${front.network} with all its weights at ${short(baseline.bits ?? 32)} bits, `
      + `costed by the same model for the same hardware and dataflow.${metric ? "" : " Below each accuracy: its 95 % confidence interval."}`
      + (accuracyKeys.includes("test_accuracy") ? "" : " Not evaluated on the test set yet.");
  }

  // ---- table, settings ----------------------------------------------------------------------------------------------
  function drawPoints() {
    const columns = ["index", "level", ...accuracyKeys, ...costKeys];
    const names = { index: "Point", level: patterns.length > 1 ? "Level" : "Level (%)" };
    const key = state.sort || { column: costs[0] || costKeys[0], up: true };
    const order = points.map((_, i) => i).filter(hasPattern).sort((a, b) => (points[a][key.column] - points[b][key.column]) * (key.up ? 1 : -1) || a - b);
    const head = columns.map((column) => build("th", { class: "number", "aria-sort": key.column === column ? (key.up ? "ascending" : "descending") : "none" },
      build("button", { type: "button", on: { click: () => { state.sort = { column, up: key.column === column ? !key.up : true }; drawPoints(); } } },
        (names[column] || label(column)) + (key.column === column ? (key.up ? " ↑" : " ↓") : ""))));
    const body = order.map((i) => build("tr", { "data-position": i, class: i === state.selected ? "current" : null, on: { click: () => select(i) } },
      columns.map((column) => build("td", { class: "number", title: interval95(column, i) }, column === "index" ? String(points[i].index) : column === "level" && patterns.length > 1 ? points[i].level_label : measures[column].text(points[i][column])))));
    byId("points").replaceChildren(build("thead", {}, build("tr", {}, head)), build("tbody", {}, body));
  }

  function drawMade() {
    const text = (value) => (value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value));
    const list = (title, values) => build("div", {}, build("h3", {}, title),
      build("dl", {}, Object.entries(values).map(([name, value]) => build("div", {}, build("dt", {}, name), build("dd", {}, text(value))))));
    const data = { network: front.network, dataset: front.dataset, hardware: front.hardware, dataflow: flow(front.dataflow), coding: labels.codings[front.coding] || front.coding, accounting: front.accounting,
      "validation images": baseline.validation_images ?? null, "test images": baseline.test_images ?? null };
    byId("made").append(list("Network and hardware", data), list("Search", front.settings),
      ...(front.finetuning ? [list("Fine-tuning", front.finetuning)] : []), list("Versions", front.versions));
  }

  function drawControls() {
    const choose = (id, keys, current, action) => {
      byId(id).append(...keys.map(([value, text]) => build("option", { value, selected: value === current ? "" : null }, text)));
      byId(id).addEventListener("change", (event) => { action(event.target.value); drawChart(); });
    };
    const automatic = () => {
      const values = points.map((point) => point[state.x]).concat(isNumber(baseline[state.x]) ? [baseline[state.x]] : []);
      state.log = state.x !== "level" && Math.min(...values) > 0 && Math.max(...values) > 6 * Math.min(...values);
      byId("x-log").checked = state.log;
    };
    choose("x-axis", [...costKeys, "level"].map((key) => [key, label(key)]), state.x, (value) => { state.x = value; automatic(); });
    choose("y-axis", accuracyKeys.map((key) => [key, measures[key].name]), state.y, (value) => { state.y = value; });
    choose("y-range", [["", "all points"], ["20", "within 20 points"], ["5", "within 5 points"], ["2", "within 2 points"]], String(state.below ?? ""),
      (value) => { state.below = value ? Number(value) : null; });
    byId("patterns").hidden = patterns.length < 2;
    choose("pattern", [["", "all"], ...patterns.map((name) => [name, name])], "", (value) => { state.pattern = value; drawPoints(); });
    byId("x-log").addEventListener("change", (event) => { state.log = event.target.checked; drawChart(); });
    automatic();
    const svg = byId("chart");
    svg.addEventListener("pointermove", (event) => hover(nearestTo(event)));
    svg.addEventListener("pointerleave", () => hover(null));
    svg.addEventListener("click", (event) => { const i = nearestTo(event); if (i !== null) select(i); });
  }

  drawHead();
  drawControls();
  drawChart();
  drawPicks();
  drawHistory(front.history);
  redrawWhenResized(byId("chart"), drawChart);
  redrawWhenResized(byId("history"), () => drawHistory(front.history));
  drawPoints();
  drawMade();
  const asked = /^#point=(-?\d+)$/.exec(location.hash);
  const linked = asked ? points.findIndex((point) => point.index === Number(asked[1])) : -1;
  select(linked >= 0 ? linked : recommended.position);
})();
