"use strict";
// Draws a table with the costs of each layer of a point.
function layerView(layers, parts, unit) {
  function total(values) {
    return Object.values(values || {}).reduce((sum, value) => sum + value, 0);
  }

  function spentBy(point) {
    return layers.map((name) => (point.energy_by_layer ? total(point.energy_by_layer[name]) : 0));
  }

  // The layer that takes the most energy; null if the energies are unknown.
  function topLayer(point) {
    const spent = spentBy(point);
    const all = spent.reduce((sum, value) => sum + value, 0);
    const top = spent.indexOf(Math.max(...spent));
    return all > 0 ? { name: layers[top], share: spent[top] / all } : null;
  }

  function drawLayers(point) {
    const energy = point.energy_by_layer || null;
    const bytes = point.bytes_by_layer || null;
    const nextBit = point.next_bit_cost || null;
    const inputs = point.activation_bits || null;
    const spent = spentBy(point);
    const all = spent.reduce((sum, value) => sum + value, 0);
    const used = Object.keys(parts).filter((part) => energy && layers.some((name) => energy[name] && energy[name][part] > 0));
    const most = Math.max(...spent, 0);
    const mostBytes = bytes ? Math.max(...layers.map((name) => bytes[name] || 0)) : 0;
    byId("legend").replaceChildren(...used.map((part) => build("span", {}, build("i", { class: part }), parts[part])));
    byId("layers-sentence").textContent = [all > 0 ? energySentence(point, energy, spent, all, used) : "", nextBit ? nextBitSentence(nextBit) : ""].join(" ").trim();
    const bar = (figure, share, title) => build("div", { class: "bar-row", title },
      build("span", { class: "figure" }, figure), build("span", { class: "track" }, build("span", { width: `${100 * share}%` })));
    const stack = (values, scale, name) => build("span", { class: "track" }, used.map((part) => build("span", {
      class: part, width: `${scale > 0 ? (100 * (values[part] || 0)) / scale : 0}%`,
      title: `${name}, ${parts[part]}: ${short(values[part])} ${unit}`,
    })));
    // The same number of decimals in all rows, chosen by the sum.
    const decimals = all > 0 ? Math.min(12, Math.max(0, 3 - Math.floor(Math.log10(all)))) : 0;
    const fixed = (value) => value.toFixed(decimals);
    const head = [["Layer"], ["Bits"], inputs && ["Input bits"], ["Weights remaining"], energy && [`Energy (${unit})`, "number"], energy && ["share", "number"],
      energy && [""], bytes && ["Bytes"], nextBit && ["One bit less (points)", "number"]].filter(Boolean).map(([text, kind]) => build("th", { class: kind }, text));
    const rows = layers.map((name, n) => build("tr", { "data-layer": name },
      build("td", { class: "name", title: name }, name),
      build("td", { class: "bars" }, bar(String(point.bits[name]), Math.min(1, point.bits[name] / 12), `${point.bits[name]} bits`)),
      inputs && build("td", { class: "bars" }, bar(String(inputs[name]), inputs[name] / 16, inputs[name] < 16 ? `inputs rounded to ${inputs[name]} bits` : "inputs not rounded")),
      build("td", { class: "bars" }, bar(percent(point.density[name], 0), point.density[name], percent(point.density[name], 1))),
      energy && [build("td", { class: "number" }, fixed(spent[n])), build("td", { class: "number" }, percent(all > 0 ? spent[n] / all : 0, 0)),
        build("td", { class: "wide" }, stack(energy[name] || {}, most, name))],
      bytes && build("td", { class: "bars" }, bar(short(bytes[name] || 0), mostBytes > 0 ? (bytes[name] || 0) / mostBytes : 0, `${short(bytes[name] || 0)} bytes`)),
      nextBit && build("td", { class: "number", title: isNumber(nextBit[name]) ? "expected change of the validation accuracy, points" : "it has the fewest bits" }, lostPoints(nextBit[name]))));
    const sums = Object.fromEntries(used.map((part) => [part, layers.reduce((sum, name) => sum + ((energy[name] || {})[part] || 0), 0)]));
    const foot = energy ? build("tfoot", {}, build("tr", {}, build("td", {}, "all"), build("td", {}), inputs && build("td", {}), build("td", {}),
      build("td", { class: "number" }, fixed(all)), build("td", { class: "number" }, "100 %"), build("td", {}, stack(sums, all, "all layers")),
      bytes && build("td", {}, short(total(bytes))), nextBit && build("td", {}))) : null;
    byId("layers").replaceChildren(build("thead", {}, build("tr", {}, head)), build("tbody", {}, rows));
    if (foot) byId("layers").append(foot);
  }

  const lostPoints = (cost) => (!isNumber(cost) ? "–" : cost < 5e-5 ? "0.00" : `−${(100 * cost).toFixed(2)}`);

  function nextBitSentence(nextBit) {
    const known = layers.filter((name) => isNumber(nextBit[name]));
    if (!known.length) return "Every layer has the fewest bits of the search.";
    const dearest = known.reduce((a, b) => (nextBit[b] > nextBit[a] ? b : a));
    return `One bit less is expected to cost most in ${dearest}: ${(100 * nextBit[dearest]).toFixed(2)} points of validation accuracy.`;
  }

  function energySentence(point, energy, spent, all, used) {
    const top = spent.indexOf(Math.max(...spent));
    const values = energy[layers[top]];
    const part = used.reduce((a, b) => ((values[b] || 0) > (values[a] || 0) ? b : a));
    return `In point ${point.index}, ${layers[top]} takes the most energy: ${percent(spent[top] / all, 0)} of the whole, `
      + `${percent(values[part] / spent[top], 0)} of it for ${parts[part]}.`;
  }

  return { topLayer, drawLayers };
}
