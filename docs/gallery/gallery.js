"use strict";

/* The networks, each an object, and the published weights of each, from the arrays that the page holds. */
const data = JSON.parse(document.getElementById("data").textContent);
const networks = data.networks.map((row, index) => {
  const network = Object.fromEntries(data.keys.map((key, column) => [key, row[column]]));
  network.index = index;
  network.registry = network.name.includes("/") ? network.name.slice(0, network.name.lastIndexOf("/")) : "";
  network.size = network.input[1] * network.input[2];
  network.weights = network.weights.map(
    (weights) => Object.fromEntries(data.weightKeys.map((key, column) => [key, weights[column]])),
  );
  const known = network.weights.filter((weights) => weights.accuracy !== null && weights.labels === "imagenet-1k");
  network.best = known.reduce((best, weights) => (best && best.accuracy >= weights.accuracy ? best : weights), null);
  network.accuracy = network.best ? network.best.accuracy : null;
  return network;
});

const find = (id) => document.getElementById(id);
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const shorten = (number) => {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= size) return `${Number((number / size).toPrecision(3))} ${unit}`;
  }
  return String(number);
};
/* The pieces of a name, between which a narrow screen may break it. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((piece, index) => (index ? [element("wbr"), piece] : [piece]));
const percent = (accuracy) => (accuracy === null ? "" : `${accuracy.toFixed(2)} %`);

/* the table */
const rows = networks.map((network) => {
  const cut = network.registry ? network.registry.length + 1 : 0;
  const folder = element("span", { class: "registry" }, network.name.slice(0, cut));
  const name = element("button", { title: network.name }, folder, element("wbr"), ...breakable(network.name.slice(cut)));
  const row = element("tr", {}, element("td", {}, name), element("td", { title: network.source }, network.paper));
  const size = network.input.slice(1).join("×");
  for (const text of [shorten(network.parameters), shorten(network.macs), size, percent(network.accuracy)]) {
    row.append(element("td", { class: "number" }, text));
  }
  row.addEventListener("click", () => choose(network));
  return row;
});

let order = { key: "name", down: false };
const names = new Intl.Collator("en", { numeric: true }); // far quicker than localeCompare with the same options
function sort() {
  const sign = order.down ? -1 : 1;
  const compared = [...networks].sort((a, b) => {
    const [x, y] = [a[order.key], b[order.key]];
    if (x === y) return a.index - b.index;
    if (x === null || y === null) return x === null ? 1 : -1;
    return sign * (typeof x === "string" ? names.compare(x, y) : x - y);
  });
  find("rows").replaceChildren(...compared.map((network) => rows[network.index]));
  for (const button of document.querySelectorAll("th button")) {
    const here = button.dataset.key === order.key;
    button.parentElement.setAttribute("aria-sort", here ? (order.down ? "descending" : "ascending") : "none");
  }
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const { key } = button.dataset;
    order = { key, down: key === order.key ? !order.down : key === "accuracy" };
    sort();
  });
}

/* the filters */
const count = (values) => {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts].sort((a, b) => a[0].localeCompare(b[0], "en"));
};
const library = (network) => network.registry.split("/")[0];
for (const [name, number] of count(networks.map(library))) {
  find("registry").append(element("option", { value: name || "." }, `${name || "no folder"} (${number})`));
}
for (const [name, number] of count(networks.map((network) => network.paper))) {
  find("source").append(element("option", { value: name }, `${name} (${number})`));
}
const filters = ["name", "registry", "source", "weights", "limit"];
let shown = networks;
function filter() {
  const words = find("name").value.toLowerCase().split(/\s+/).filter(Boolean);
  const limit = parseFloat(find("limit").value.replace(",", "."));
  const [registry, source, weights] = ["registry", "source", "weights"].map((id) => find(id).value);
  shown = networks.filter(
    (network) =>
      words.every((word) => network.name.toLowerCase().includes(word)) &&
      (!registry || library(network) === registry.replace(/^\.$/, "")) &&
      (!source || network.paper === source) &&
      (!weights || network.weights.some((each) => weights === "any" || each.open)) &&
      (Number.isNaN(limit) || network.parameters <= limit * 1e6),
  );
  const visible = new Set(shown);
  for (const network of networks) rows[network.index].hidden = !visible.has(network);
  const published = shown.filter((network) => network.weights.length).length;
  find("count").textContent = `${shown.length} of ${networks.length} networks, ${published} with published weights`;
  find("nothing").hidden = shown.length > 0;
  plot();
}
for (const id of filters) find(id).addEventListener("input", filter);
find("clear").addEventListener("click", () => {
  for (const id of filters) find(id).value = "";
  filter();
});

/* the plot */
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attributes, text = "") => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};
function plot() {
  const key = find("axis").value;
  const points = shown.filter((network) => network.accuracy !== null);
  if (!points.length) {
    find("chart").replaceChildren();
    find("hint").textContent = "None of these networks has published weights whose accuracy is stated.";
    return;
  }
  find("hint").textContent = "Dashed: no cheaper network here is more accurate. Costs are for the image in the table; some accuracies are for a larger one, named with the weights.";
  const width = Math.max(340, Math.min(900, find("chart").clientWidth || 600)); // so that text has the page's size
  const [height, left, bottom] = [Math.round(width * (width < 450 ? 0.7 : 0.55)), 40, 26];
  const logs = points.map((network) => Math.log10(network[key]));
  const [low, high] = [Math.min(...logs) - 0.08, Math.max(...logs) + 0.08];
  const accuracies = points.map((network) => network.accuracy);
  const bottomAccuracy = Math.floor(Math.min(...accuracies) / 5) * 5;
  const top = Math.max(bottomAccuracy + 5, Math.ceil((Math.max(...accuracies) + 0.5) / 5) * 5);
  const x = (network) => left + ((Math.log10(network[key]) - low) / (high - low)) * (width - left - 8);
  const y = (accuracy) => height - bottom - ((accuracy - bottomAccuracy) / (top - bottomAccuracy)) * (height - bottom - 8);
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "accuracy by cost" });
  for (let tick = bottomAccuracy; tick <= top; tick += top - bottomAccuracy > 40 ? 10 : 5) {
    drawing.append(shape("line", { class: "grid", x1: left, x2: width - 8, y1: y(tick), y2: y(tick) }));
    drawing.append(shape("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, `${tick} %`));
  }
  for (let power = Math.floor(low); power <= high; power += 1) {
    for (const digit of (width - left) / (high - low) < 100 ? [1] : [1, 3]) {
      const value = digit * 10 ** power;
      const place = left + ((Math.log10(value) - low) / (high - low)) * (width - left - 8);
      if (place < left || place > width - 20) continue;
      drawing.append(shape("line", { class: "grid", x1: place, x2: place, y1: 8, y2: height - bottom }));
      drawing.append(shape("text", { x: place, y: height - 8, "text-anchor": "middle" }, shorten(value)));
    }
  }
  let best = -Infinity;
  const front = [...points].sort((a, b) => a[key] - b[key] || b.accuracy - a.accuracy).filter((network) => {
    const better = network.accuracy > best;
    best = Math.max(best, network.accuracy);
    return better;
  });
  const path = front.map((network) => `${x(network).toFixed(1)},${y(network.accuracy).toFixed(1)}`).join(" ");
  drawing.append(shape("polyline", { class: "front", points: path }));
  for (const network of points) {
    const circle = shape("circle", { cx: x(network).toFixed(1), cy: y(network.accuracy).toFixed(1), r: 4 });
    circle.append(shape("title", {}, `${network.name}: ${percent(network.accuracy)}, ${shorten(network[key])}`));
    circle.addEventListener("click", () => choose(network, true));
    network.circle = circle;
    drawing.append(circle);
  }
  find("chart").replaceChildren(drawing);
  mark();
}
find("axis").addEventListener("change", plot);
addEventListener("resize", plot);

/* the details of a network */
let chosen = null;
function mark() {
  for (const other of document.querySelectorAll(".chosen")) other.classList.remove("chosen");
  if (!chosen) return;
  rows[chosen.index].classList.add("chosen");
  if (chosen.circle && chosen.circle.isConnected) {
    chosen.circle.classList.add("chosen");
    chosen.circle.parentNode.append(chosen.circle);
  }
}
const specs = (async () => {
  const bytes = Uint8Array.from(atob(find("specs").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
})();
function code(text) {
  const button = element("button", { class: "copy" }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "select the text";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  return element("div", {}, button, element("pre", {}, text));
}
function describe(network) {
  const title = element("h2", {}, network.name);
  const facts = `${network.source}. ${network.parameters.toLocaleString("en")} parameters, `
    + `${network.macs.toLocaleString("en")} MACs for an image of ${network.input.join(" × ")}.`;
  const parts = [title, element("p", { class: "facts" }, facts)];
  const picture = element("img", { src: `pictures/${network.name}.svg`, alt: `The blocks of ${network.name}` });
  picture.addEventListener("error", () => picture.remove());
  parts.push(picture);
  if (network.weights.length) {
    const body = element("tbody");
    for (const weights of network.weights) {
      const size = weights.at ? `${weights.at} px` : "";
      const cells = [weights.tag, percent(weights.accuracy), size, weights.labels, weights.license];
      body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell || ""))));
    }
    const heads = ["tag", "top-1", "at", "classes", "licence"].map((head) => element("th", {}, head));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
    parts.push(element("h3", {}, "Published weights"), element("div", { class: "scroll" }, table));
  }
  const tag = (network.weights.find((weights) => weights.default) || network.weights[0] || {}).tag;
  const weights = tag ? `, weights="${tag}"` : "";
  parts.push(element("h3", {}, "Use it"));
  parts.push(code(`from resnet_spec import build\n\nmodel = build("${network.name}", backend="torch"${weights})`));
  parts.push(code(`resnet-spec show ${network.name} --depth 2\nresnet-spec parity ${network.name}`));
  const yaml = element("div", {}, element("h3", {}, `specs/${network.name}.yaml`));
  specs.then(
    (texts) => yaml.append(code(texts[network.index])),
    () => yaml.append(element("p", { class: "hint" }, "This browser cannot unpack the specs; update it to read them.")),
  );
  find("details").replaceChildren(...parts, yaml);
}
function choose(network, scroll = false) {
  chosen = network;
  describe(network);
  mark();
  if (scroll) rows[network.index].scrollIntoView({ block: "nearest" });
  history.replaceState(null, "", `#${network.name}`);
}

filter();
sort(); // last: the plot asks for its width, and until the rows are there that is known at once
const wanted = networks.find((network) => network.name === decodeURIComponent(location.hash.slice(1)));
if (wanted) choose(wanted, true);
