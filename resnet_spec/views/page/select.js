// State shared by all panes: the data, the selected part, which parts are open; and how values are written.

const $ = (id) => document.getElementById(id);

let shown = JSON.parse($('data').textContent);
let rows = new Map(); // rows of the table by path
let order = []; // paths in the order in which the parts run
let stages = [];
let blocks = new Set();
let folds = new Map(); // the paths of all equal blocks in a row, by the path of each of them
let chosen = '';
const open = new Set(); // open stages and blocks
const unfolded = new Set(); // the first block of each fold whose blocks are shown one by one

function index() {
  rows = new Map(shown.rows.map((row) => [row.path, row]));
  order = [...rows.keys()];
  const above = [];
  for (const row of rows.values()) {
    row.parent = row.depth > 1 ? above[row.depth - 1] : '';
    above[row.depth] = row.path;
  }
  stages = shown.stages;
  blocks = new Set(order.filter((path) => stages.includes(rows.get(path).parent)));
  folds = new Map(shown.folds.flatMap((fold) => fold.map((path) => [path, fold])));
}

function above(path) {
  const found = [];
  for (let at = rows.get(path)?.parent; at; at = rows.get(at).parent) found.push(at);
  return found;
}

// Select a part in every pane, and open the stage and block that contain it unless reveal is false.
function choose(path, { reveal = true } = {}) {
  chosen = rows.has(path) ? path : '';
  // A part of a folded block is drawn in the first block of the fold, which must be open too.
  const around = above(chosen).filter((at) => stages.includes(at) || blocks.has(at));
  const hidden = around.flatMap((at) => [at, drawnAs(at)]).filter((at) => !open.has(at));
  if (reveal && hidden.length) {
    hidden.forEach((at) => open.add(at));
    showOpen();
  }
  showChosen();
  showRowChosen();
  showSource();
  showDetails();
}

function toggle(path) {
  if (!stages.includes(path) && !blocks.has(path)) return;
  open.has(path) ? open.delete(path) : open.add(path);
  showOpen();
}

function setLevel(level) {
  open.clear();
  if (level !== 'stages') stages.forEach((path) => open.add(path));
  if (level === 'layers') blocks.forEach((path) => open.add(path));
  showOpen();
}

function level() {
  if (!stages.some((path) => open.has(path))) return 'stages';
  if (!stages.every((path) => open.has(path))) return '';
  const opened = [...blocks].filter((path) => open.has(path)).length;
  return opened === 0 ? 'blocks' : opened === blocks.size ? 'layers' : '';
}

function showOpen() {
  showDrawingOpen();
  showRows();
  for (const button of document.querySelectorAll('[data-level]')) {
    button.setAttribute('aria-pressed', String(button.dataset.level === level()));
  }
  showChosen();
}

function matches(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const fits = (row) => words.every((word) => `${row.path} ${row.operation}`.toLowerCase().includes(word));
  return new Set([...rows.values()].filter(fits).map((row) => row.path));
}

function written(key, value) {
  if (value === null || value === undefined) return key === 'field' || key === 'step' ? 'image' : '';
  if (Array.isArray(value)) return value.join('x');
  if (key === 'share') return value ? `${(100 * value).toFixed(1)} %` : '';
  if (typeof value !== 'number') return String(value);
  return value || key === 'kernel' || key === 'stride' ? value.toLocaleString('en-US') : '';
}

function element(name, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}
