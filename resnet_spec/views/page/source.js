// The YAML: the files of the network, with the line of the selected part and with problems at their lines.

let file = 0;
let problems = [];

function showFiles() {
  const tabs = shown.files.map(({ name }, number) => {
    const tab = element('button', { type: 'button', textContent: name });
    tab.setAttribute('role', 'tab');
    tab.addEventListener('click', () => showFile(number));
    return tab;
  });
  $('files').replaceChildren(...tabs);
}

function showFile(number) {
  file = number;
  const tabs = [...$('files').children];
  tabs.forEach((tab, at) => {
    tab.setAttribute('aria-selected', String(at === file));
    tab.tabIndex = at === file ? 0 : -1;
  });
  const lines = (shown.files[file]?.text ?? '').replace(/\n$/, '').split('\n');
  // A problem may be reported after the last line, where something is missing.
  const wrong = problems.map((problem) => ({ ...problem, line: Math.min(problem.line, lines.length) }));
  $('text').replaceChildren(...lines.flatMap((text, at) => sourceLine(text.replace(/\r$/, ''), at + 1, wrong)));
  showLines();
}

function sourceLine(text, number, problems) {
  const wrong = problems.filter((problem) => problem.file === file && problem.line === number);
  const code = wrong.length ? marked(text, wrong[0]) : element('code', {}, ...coloured(text));
  const made = element('div', { className: 'line' }, element('span', { className: 'at', textContent: number }), code);
  made.dataset.line = number;
  made.classList.toggle('wrong', wrong.length > 0);
  made.classList.toggle('parts', partsAt(number).length > 0);
  return [made, ...wrong.map((problem) => problemBox(problem))];
}

// Highlight keys and comments, as far as they can be recognized from a single line.
function coloured(text) {
  const comment = text.search(/(^|\s)#/);
  const body = comment < 0 ? text : text.slice(0, comment);
  const parts = [];
  let last = 0;
  for (const key of body.matchAll(/(?<=^\s*(?:- )?|[{,]\s*)[\w.-]+(?=:(?:\s|$))/g)) {
    parts.push(body.slice(last, key.index), element('span', { className: 'key', textContent: key[0] }));
    last = key.index + key[0].length;
  }
  parts.push(body.slice(last));
  if (comment >= 0) parts.push(element('span', { className: 'comment', textContent: text.slice(comment) }));
  return parts;
}

function marked(text, problem) {
  const [from, to] = [problem.column - 1, Math.max(problem.end - 1, problem.column)];
  const mark = element('mark', { textContent: text.slice(from, to) || ' ' });
  return element('code', {}, text.slice(0, from), mark, text.slice(to));
}

function problemBox(problem) {
  const box = element('div', { className: 'problem', textContent: problem.message });
  if (problem.help) box.append(element('br'), element('small', { textContent: `help: ${problem.help}` }));
  return box;
}

function partsAt(line) {
  return order.filter((path) => rows.get(path).at?.[0] === file && rows.get(path).at[1] === line);
}

// Show the file and line that the selected part comes from.
function showSource() {
  const at = rows.get(chosen)?.at;
  if (at && at[0] !== file) showFile(at[0]);
  else showLines();
}

function showLines() {
  const own = rows.get(chosen)?.at;
  const near = above(chosen).map((path) => rows.get(path).at).filter(Boolean);
  for (const made of $('text').querySelectorAll('.line')) {
    const here = ([number, line]) => number === file && line === Number(made.dataset.line);
    made.classList.toggle('chosen', Boolean(own && here(own)));
    made.classList.toggle('near', near.some(here));
  }
  const used = new Set([own, ...near].filter(Boolean).map(([number]) => number));
  [...$('files').children].forEach((tab, at) => tab.classList.toggle('used', used.has(at) && at !== file));
  const at = $('text').querySelector('.line.chosen');
  if (at) scrollInPane(at, $('text'));
}

function startSource() {
  $('text').addEventListener('click', (event) => {
    const made = event.target.closest('.line');
    const paths = made ? partsAt(Number(made.dataset.line)) : [];
    if (paths.length) choose(paths[(paths.indexOf(chosen) + 1) % paths.length]);
  });
  $('files').addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    showFile((file + step + shown.files.length) % shown.files.length);
    $('files').children[file].focus();
  });
}
