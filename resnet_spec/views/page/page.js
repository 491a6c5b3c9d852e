// The page: its top bar, the details of a part, the keys that work everywhere, and updates from a server.

function showTop() {
  const { name, summary } = shown;
  document.title = name;
  $('name').textContent = name;
  if (!summary) return;
  const memory = `${(summary.memory / 1e6).toFixed(1)} MB of activations`;
  const parameters = `${summary.parameters.toLocaleString('en-US')} parameters`;
  const counts = [parameters, `${short(summary.macs)} MACs`, `${short(summary.flops)} FLOPs`];
  $('summary').textContent = [...counts, memory, `input ${summary.input.join('x')}`].join(' · ');
}

function short(number) {
  const power = Math.min(Math.floor(Math.log10(Math.max(number, 1)) / 3), 4);
  return `${Number((number / 1000 ** power).toPrecision(3))}${['', ' k', ' M', ' G', ' T'][power]}`;
}

function showDetails() {
  const row = rows.get(chosen);
  $('details').classList.toggle('chosen', Boolean(row));
  if (!row) return showNetworkDetails();
  const values = Object.entries(row.arguments ?? {}).map(([name, value]) => `${name}: ${value}`);
  const pairs = [
    ['in', written('in', row.in)],
    ['out', written('out', row.out)],
    ['parameters', row.parameters ? `${written('parameters', row.parameters)} (${written('share', row.share)})` : ''],
    ['statistics', written('statistics', row.statistics)],
    ['MACs', written('macs', row.macs)],
    ['FLOPs', written('flops', row.flops)],
    ['memory, bytes', written('memory', row.memory)],
    ['receptive field', written('field', row.field)],
    ['cumulative stride', written('step', row.step)],
    ...(row.weights ?? []).map(([name, shape]) => [name, shape.join('x')]),
  ].filter(([, value]) => value);
  const operation = [row.operation, ...values].join(', ').replace(',', values.length ? ':' : '');
  $('details').replaceChildren(
    element('h2', { textContent: row.path }),
    element('p', { className: 'operation', textContent: operation }),
    definitions(pairs),
  );
}

function showNetworkDetails() {
  const { summary } = shown;
  const note = (text) => element('p', { className: 'note', textContent: text });
  if (!summary) return $('details').replaceChildren(note('There is nothing to draw yet.'));
  const costs = [
    ['parameters', 'parameters'],
    ['statistics', 'statistics'],
    ['MACs', 'macs'],
    ['FLOPs', 'flops'],
    ['memory, bytes', 'memory'],
  ].map(([name, key]) => [name, written(key, summary[key])]);
  $('details').replaceChildren(
    element('h2', { textContent: shown.name }),
    element('p', { className: 'operation', textContent: summary.source }),
    definitions([['input', summary.input.join('x')], ['output', summary.output.join('x')], ...costs]),
    note(
      'MACs: multiply-accumulate operations in convolutions and matrix products, for one image; FLOPs = 2 x MACs. ' +
        'Memory: the outputs of all operations and additions, in float32.',
    ),
    note(
      'To select a part, click it or a line of the YAML, use the arrow keys in the drawing or the table, or search.',
    ),
  );
}

function definitions(pairs) {
  const entry = ([name, value]) => [element('dt', { textContent: name }), element('dd', { textContent: value })];
  return element('dl', {}, ...pairs.flatMap(entry));
}

function setTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  $('theme').textContent = dark ? 'dark' : 'light';
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = $('search');
  if (event.target === search) {
    if (event.key === 'Enter') next();
    if (event.key === 'Escape') {
      search.value = '';
      search.dispatchEvent(new Event('input'));
      search.blur();
    }
    return;
  }
  const to = {
    '/': () => search.focus(),
    1: () => setLevel('stages'),
    2: () => setLevel('blocks'),
    3: () => setLevel('layers'),
    '+': () => magnify(1),
    '=': () => magnify(1),
    '-': () => magnify(-1),
    0: () => setScale(1),
    t: setTheme,
    Escape: () => choose(''),
  }[event.key];
  if (!to) return;
  event.preventDefault();
  to();
}

// Show new data. Parts that still exist stay selected and open; stages that are new are opened.
function showAll(first) {
  index();
  for (const path of [...open]) if (!rows.has(path)) open.delete(path);
  if (first) stages.forEach((path) => open.add(path));
  for (const path of stages) if (!known.has(path)) open.add(path);
  known = new Set(stages);
  showTop();
  showDrawing();
  showHead();
  showFiles();
  showFile(Math.min(file, shown.files.length - 1));
  search($('search').value);
  showOpen();
  choose(chosen, { reveal: false });
}
let known = new Set();

function showTrouble(lines) {
  $('trouble').hidden = !lines.length;
  $('trouble').replaceChildren(...lines.map((text) => element('p', { textContent: text })));
}

// Ask the server for changes every 400 ms. An invalid edit is shown beside the last valid drawing.
async function listen() {
  let version = shown.version;
  for (;;) {
    await new Promise((done) => setTimeout(done, 400));
    let news;
    try {
      const answer = await fetch(`state?have=${version}`, { cache: 'no-store' });
      if (answer.status === 204) {
        if ($('trouble').dataset.lost) showNews({ problems });
        continue;
      }
      news = await answer.json();
    } catch {
      $('trouble').dataset.lost = 'lost';
      showTrouble(['the server has stopped; this page shows the last state it sent']);
      continue;
    }
    version = news.version;
    showNews(news);
  }
}

// Receive the changes from the page around this one, in whose frame this page is.
function receive() {
  addEventListener('message', ({ source, data }) => {
    if (source === parent) showNews(data);
  });
}

function showNews(news) {
  delete $('trouble').dataset.lost;
  problems = news.problems;
  if (news.rows) shown = news;
  else if (news.files) shown.files = news.files;
  news.rows ? showAll(false) : (showFiles(), showFile(problems.length ? (problems[0].file ?? file) : file));
  const wrong = $('text').querySelector('.line.wrong');
  if (wrong) scrollInPane(wrong, $('text'));
  const last = problems.length && rows.size ? ['the drawing shows the last valid version of the spec'] : [];
  showTrouble([...problems.map(problemText), ...last]);
}

function problemText({ file, line, column, message, help }) {
  const place = file === undefined || file === null ? '' : `${shown.files[file].name}:${line}:${column}: `;
  return `${place}${message}${help ? `; ${help}` : ''}`;
}

function start() {
  startDrawing();
  startTable();
  startSource();
  document.addEventListener('keydown', keys);
  $('search').addEventListener('input', (event) => search(event.target.value));
  $('larger').addEventListener('click', () => magnify(1));
  $('smaller').addEventListener('click', () => magnify(-1));
  $('zoom').addEventListener('click', () => setScale(1));
  $('theme').addEventListener('click', setTheme);
  $('theme').textContent = matchMedia('(prefers-color-scheme: dark)').matches ? 'light' : 'dark';
  for (const button of document.querySelectorAll('[data-level]')) {
    button.addEventListener('click', () => setLevel(button.dataset.level));
  }
  showAll(true);
  if (shown.live) {
    showNews({ problems: shown.problems ?? [] });
    shown.live === 'parent' ? receive() : listen();
  }
}

start();
