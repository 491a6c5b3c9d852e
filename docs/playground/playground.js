// The playground: an editor of a spec on the left, and the page that `resnet-spec serve` gives on the right.

import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import { bracketMatching, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { lintGutter, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  hoverTooltip,
  keymap,
  lineNumbers,
} from '@codemirror/view';
import { classHighlighter } from '@lezer/highlight';

import { pack, unpack } from './link.js';
import { complete, describe, setSchema } from './schema.js';

const PAUSE = 60; // milliseconds without a key before an edit is drawn
const FIRST = `# Edit this spec: the network is drawn again as you type.
name: small
takes: {classes: 10}
input: [3, 64, 64]
stem:
  conv1: {op: conv, out: 16, kernel: 3, padding: 1}
  bn1: norm
  relu: act
stages:
  layer1: {block: basic, depth: 2, out: 16}
  layer2: {block: basic, depth: 2, out: 32, stride: 2}
head:
  avgpool: global_avg_pool
  fc: {op: linear, out: classes}
`;
const extending = (name) => `name: my_${name.split('/').at(-1)}
extends: ${name}
takes: {classes: 10}
`;

const $ = (id) => document.getElementById(id);
const element = (kind, values) => Object.assign(document.createElement(kind), values);
const makers = document.querySelectorAll('[data-make]'); // buttons of the files that the core makes of a valid spec

function say(text, wrong = false) {
  $('status').textContent = text;
  $('status').classList.toggle('wrong', wrong);
}

// -- the worker -------------------------------------------------------------------------------------------------

const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
const waiting = new Map();
let calls = 0;

function ask(action, text) {
  return new Promise((done, failed) => {
    waiting.set(++calls, { done, failed });
    worker.postMessage({ id: calls, action, text });
  });
}

worker.addEventListener('message', ({ data: { id, error, ...answer } }) => {
  const { done, failed } = waiting.get(id);
  waiting.delete(id);
  error === undefined ? done(answer) : failed(new Error(error));
});
worker.addEventListener('error', ({ message }) => {
  const error = new Error(message || 'its worker could not be loaded');
  for (const { failed } of waiting.values()) failed(error);
  waiting.clear();
});

// -- the editor -------------------------------------------------------------------------------------------------

function completions({ state, pos, explicit }) {
  const found = complete(state.doc.toString(), pos);
  const isStart = /[:{,[-]\s+$/.test(state.sliceDoc(Math.max(0, pos - 3), pos)); // of a key or value
  if (!found || !(explicit || found.typed || isStart)) return null;
  return { from: found.from, options: found.options, validFor: /^[\w./-]*$/ };
}

function hover(view, pos) {
  const found = describe(view.state.doc.toString(), pos);
  if (!found) return null;
  const create = () => ({ dom: element('div', { className: 'about', textContent: found.text }) });
  return { pos: found.from, end: found.to, above: true, create };
}

// Return a problem in the form of CodeMirror. Columns count characters, and CodeMirror's offsets UTF-16 units.
function diagnostic(state, { line, column, end, message, help }) {
  const { from, to, text } = state.doc.line(Math.min(line, state.doc.lines));
  const at = (number) => from + [...text].slice(0, number - 1).join('').length;
  const start = Math.min(at(column), to);
  const renderMessage = () => {
    const box = element('div', { textContent: message });
    if (help) box.append(element('div', { className: 'help', textContent: `help: ${help}` }));
    return box;
  };
  return { from: start, to: Math.max(start, Math.min(at(end), to)), severity: 'error', message, renderMessage };
}

const edited = EditorView.updateListener.of((update) => {
  if (update.docChanged) plan();
});
const view = new EditorView({
  parent: $('editor'),
  state: EditorState.create({
    extensions: [
      lineNumbers(),
      lintGutter(),
      highlightActiveLine(),
      highlightActiveLineGutter(),
      drawSelection(),
      history(),
      indentUnit.of('  '),
      bracketMatching(),
      closeBrackets(),
      yaml(),
      syntaxHighlighting(classHighlighter),
      autocompletion({ override: [completions], icons: false }),
      hoverTooltip(hover),
      keymap.of([closeBracketsKeymap, defaultKeymap, historyKeymap, completionKeymap, lintKeymap, indentWithTab].flat()),
      EditorView.contentAttributes.of({ 'aria-label': 'Spec in YAML. To leave with Tab, press Escape first.' }),
      edited,
    ],
  }),
});

const text = () => view.state.doc.toString();

function replace(value) {
  if (value !== text()) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } });
}

// -- drawing ----------------------------------------------------------------------------------------------------

let timer;
let busy = true; // until the first drawing
let shown; // the text that was drawn last

function plan() {
  clearTimeout(timer);
  timer = setTimeout(update, PAUSE);
}

async function update() {
  if (busy || text() === shown) return;
  busy = true;
  const [drawn, started] = [text(), performance.now()];
  try {
    show(drawn, await ask('edit', drawn), started);
  } catch (error) {
    say(`This spec could not be drawn: ${error.message}`, true);
  }
  shown = drawn;
  busy = false;
  update();
}

function show(drawn, { news, problems, memory, wrong }, started) {
  if (news) $('frame').contentWindow.postMessage(news, '*');
  if (drawn === text()) view.dispatch(setDiagnostics(view.state, problems.map((each) => diagnostic(view.state, each))));
  makers.forEach((button) => { button.disabled = wrong; });
  report({ memory, milliseconds: Math.round(performance.now() - started), wrong });
  keep(drawn);
}

// Say how it went, for readers and, as data, for measurements.
let edits = 0;
function report({ memory, milliseconds, wrong }) {
  say(wrong ? 'The spec has problems.' : `Drawn in ${(milliseconds / 1000).toFixed(2)} s.`, wrong);
  Object.assign(document.body.dataset, { edits: edits++, memory, milliseconds, wrong });
}

// -- links and files --------------------------------------------------------------------------------------------

async function keep(value) {
  const packed = await pack(value);
  if (value === text()) window.history.replaceState(null, '', `#yaml=${packed}`);
}

// Return the spec that an address names, or undefined.
async function linked(address) {
  const hash = new URLSearchParams(new URL(address).hash.slice(1));
  if (hash.get('extends')) return extending(hash.get('extends'));
  if (!hash.get('yaml')) return undefined;
  try {
    return await unpack(hash.get('yaml'));
  } catch (error) {
    say(`The spec in this link can't be read: ${error.message}.`, true);
    return undefined;
  }
}

function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

async function make({ make: kind, file }) {
  try {
    const { content } = await ask('make', kind);
    download(file, content, kind === 'svg' ? 'image/svg+xml' : 'text/x-python');
  } catch (error) {
    say(`${file} could not be made: ${error.message}`, true);
  }
}

function startTools(networks) {
  $('networks').replaceChildren(...networks.map((value) => element('option', { value })));
  $('start').addEventListener('change', ({ target: { value } }) => {
    if (networks.includes(value)) replace(extending(value));
    else if (value) say(`There is no bundled network named ${value}.`, true);
  });
  $('link').addEventListener('click', async () => {
    await keep(text());
    try {
      await navigator.clipboard.writeText(location.href);
      say('The link is copied.');
    } catch {
      say('The link is the address of this page: copy it there.');
    }
  });
  $('yaml').addEventListener('click', () => download('network.yaml', text(), 'application/yaml'));
  for (const button of makers) button.addEventListener('click', () => make(button.dataset));
  addEventListener('hashchange', async ({ newURL }) => replace((await linked(newURL)) ?? text()));
}

async function start() {
  const given = await linked(location.href);
  const damaged = $('status').classList.contains('wrong');
  replace(given ?? FIRST);
  const read = async (name) => (await fetch(name)).json();
  const [schema, names] = await Promise.all(['schema.json', 'names.json'].map(read));
  setSchema(schema, names);
  startTools(names.networks);
  const drawn = text();
  const { html, problems, memory, wrong } = await ask('start', drawn);
  await new Promise((done) => {
    $('frame').addEventListener('load', done, { once: true });
    $('frame').srcdoc = html;
  });
  shown = drawn;
  view.dispatch(setDiagnostics(view.state, problems.map((each) => diagnostic(view.state, each))));
  makers.forEach((button) => { button.disabled = wrong; });
  if (!damaged) report({ memory, milliseconds: Math.round(performance.now()), wrong });
  busy = false;
  update();
}

start().catch((error) => say(`The playground could not start: ${error.message}`, true));
