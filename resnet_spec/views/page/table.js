// The table: grouped like the network, sorted by a column, or filtered by a search.

const COLUMNS = [
  ...['path', 'operation', 'in', 'out', 'kernel', 'stride'],
  ...['parameters', 'share', 'macs', 'memory', 'field', 'step'],
];
let sorted = { key: '', down: true };
let found = null; // the paths that match the search, or null without a search

function columns() {
  return COLUMNS.map((key) => shown.columns.find((column) => column.key === key));
}

function showHead() {
  const cells = columns().map((column) => {
    const button = element('button', { type: 'button', textContent: column.heading });
    button.addEventListener('click', () => sortBy(column.key));
    const cell = element('th', { scope: 'col', className: column.number ? 'number' : '' }, button);
    cell.dataset.key = column.key;
    return cell;
  });
  $('table').tHead.replaceChildren(element('tr', {}, ...cells));
  if (!shown.summary) return;
  const total = { path: 'total', out: shown.summary.output, ...shown.summary, share: 1 };
  const last = columns().map((column) => cell(column, { ...total, in: '', operation: '', field: '', step: '' }));
  $('table').tFoot.replaceChildren(element('tr', {}, ...last));
}

// Sort by a column: numbers from large to small first, text alphabetically. A third click restores the network's order.
function sortBy(key) {
  const down = !['path', 'operation'].includes(key);
  if (sorted.key !== key) sorted = { key, down };
  else if (sorted.down === down) sorted = { key, down: !down };
  else sorted = { key: '', down: true };
  for (const head of document.querySelectorAll('th')) {
    const way = sorted.down ? 'descending' : 'ascending';
    head.dataset.key === sorted.key ? head.setAttribute('aria-sort', way) : head.removeAttribute('aria-sort');
  }
  showRows();
}

function visible() {
  const all = [...rows.values()];
  if (sorted.key) return all.filter((row) => !row.group && (!found || found.has(row.path))).sort(compare);
  if (found) return all.filter((row) => found.has(row.path));
  return all.filter((row) => above(row.path).every((at) => open.has(at) || !(stages.includes(at) || blocks.has(at))));
}

function compare(first, second) {
  const [a, b] = [first, second].map((row) => size(row[sorted.key]));
  const way = a < b ? -1 : a > b ? 1 : 0;
  return sorted.down ? -way : way;
}

// Return the key to sort a value by: the number of elements of a shape, infinity for a field of the whole image.
function size(value) {
  if (Array.isArray(value)) return value.reduce((product, extent) => product * extent, 1);
  if (value === null) return ['field', 'step'].includes(sorted.key) ? Infinity : -1;
  return typeof value === 'string' ? value.toLowerCase() : value;
}

function showRows() {
  $('table').tBodies[0].replaceChildren(...visible().map(line));
  showRowChosen();
}

function line(row) {
  const made = element('tr', { className: row.group ? `group${row.depth > 1 ? ' deep' : ''}` : '', tabIndex: -1 });
  made.dataset.row = row.path;
  made.append(...columns().map((column) => cell(column, row)));
  const flat = sorted.key || found;
  made.cells[0].style.paddingLeft = `${10 + (flat ? 0 : 14 * (row.depth - 1))}px`;
  if (!flat && (stages.includes(row.path) || (blocks.has(row.path) && row.group))) {
    const mark = element('span', { textContent: open.has(row.path) ? '▾ ' : '▸ ', className: 'mark' });
    made.cells[0].prepend(mark);
    made.setAttribute('aria-expanded', String(open.has(row.path)));
  }
  return made;
}

function cell(column, row) {
  return element('td', { className: column.number ? 'number' : '', textContent: written(column.key, row[column.key]) });
}

function showRowChosen() {
  for (const old of document.querySelectorAll('tr.chosen')) {
    old.classList.remove('chosen');
    old.tabIndex = -1;
  }
  const at = document.querySelector(`tr[data-row="${CSS.escape(chosen)}"]`);
  const first = at ?? $('table').tBodies[0].rows[0];
  if (first) first.tabIndex = 0; // Tab reaches one row; the arrow keys move on from there
  if (!at) return;
  at.classList.add('chosen');
  scrollInPane(at, $('table-pane'));
}

function search(query) {
  found = matches(query);
  $('found').textContent = found ? String(found.size) : '';
  showMatches(found);
  showRows();
}

// Select the next match of the search after the selected part.
function next() {
  if (!found?.size) return;
  const paths = order.filter((path) => found.has(path));
  choose(paths[(paths.indexOf(chosen) + 1) % paths.length]);
}

function startTable() {
  const body = $('table').tBodies[0];
  body.addEventListener('click', (event) => {
    const path = event.target.closest('tr').dataset.row;
    event.target.closest('.mark') ? toggle(path) : choose(path);
  });
  body.addEventListener('dblclick', (event) => toggle(event.target.closest('tr').dataset.row));
  body.addEventListener('keydown', (event) => {
    const at = event.target.closest('tr');
    const path = at.dataset.row;
    const inside = stages.includes(path) || blocks.has(path);
    const to = {
      ArrowDown: () => at.nextElementSibling && choose(at.nextElementSibling.dataset.row),
      ArrowUp: () => at.previousElementSibling && choose(at.previousElementSibling.dataset.row),
      ArrowRight: () => inside && !open.has(path) && toggle(path),
      ArrowLeft: () => (inside && open.has(path) ? toggle(path) : choose(rows.get(path).parent || path)),
      Enter: () => toggle(path),
      ' ': () => toggle(path),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to();
    document.querySelector('tr.chosen')?.focus({ preventScroll: true });
  });
}
