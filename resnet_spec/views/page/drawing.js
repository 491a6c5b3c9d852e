// The drawing: open and unfold cards, point at parts, move through them by keyboard, and zoom.

let scale = 1;
const SCALES = [0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3];

function showDrawing() {
  $('drawing').innerHTML = shown.drawing;
  for (const button of document.querySelectorAll('#drawing button')) button.tabIndex = -1;
  for (const path of [...unfolded]) folds.has(path) ? unfold(path) : unfolded.delete(path);
  showDrawingOpen();
}

// Return the path that shows a part: while its block is folded, the same part of the first block in the fold.
function drawnAs(path) {
  for (const at of [path, ...above(path)]) {
    const fold = folds.get(at);
    if (fold && !unfolded.has(fold[0])) return fold[0] + path.slice(at.length);
  }
  return path;
}

// Return the elements that show a part: its own, or those of the parts inside it if it has none.
function drawn(path) {
  if (!path) return [];
  const at = CSS.escape(drawnAs(path));
  const own = document.querySelectorAll(`#drawing [data-path="${at}"]`);
  return [...(own.length ? own : document.querySelectorAll(`#drawing [data-path^="${at}."]`))];
}

function showDrawingOpen() {
  for (const stage of document.querySelectorAll('.stage[data-path]')) {
    stage.classList.toggle('shut', !open.has(stage.dataset.path));
  }
  for (const block of document.querySelectorAll('.block')) {
    block.classList.toggle('opened', open.has(block.dataset.path));
  }
}

function showChosen() {
  for (const old of document.querySelectorAll('#drawing .chosen')) {
    old.classList.remove('chosen');
    old.removeAttribute('id');
    old.removeAttribute('role');
  }
  const isShown = (part) => part.matches('rect, text, tspan, .frame') && part.getClientRects().length;
  const found = drawn(chosen).filter(isShown);
  for (const part of found) part.classList.add('chosen');
  const first = found[0];
  if (first) {
    first.id = 'at';
    first.setAttribute('role', 'treeitem');
    first.setAttribute('aria-label', chosen);
    $('drawing').setAttribute('aria-activedescendant', 'at');
    scrollInPane(first, $('drawing-pane'));
  } else {
    $('drawing').removeAttribute('aria-activedescendant');
  }
}

// Scroll a pane until a part in it is visible. scrollIntoView would scroll the other panes and the page too.
function scrollInPane(part, pane) {
  const inner = part.getBoundingClientRect();
  const outer = pane.getBoundingClientRect();
  const margin = 40;
  if (inner.top < outer.top + margin) pane.scrollTop += inner.top - outer.top - margin;
  else if (inner.bottom > outer.bottom - margin) pane.scrollTop += inner.bottom - outer.bottom + margin;
  if (inner.left < outer.left + margin) pane.scrollLeft += inner.left - outer.left - margin;
  else if (inner.right > outer.right - margin) pane.scrollLeft += inner.right - outer.right + margin;
}

function showMatches(found) {
  $('drawing').classList.toggle('searching', found !== null);
  const paths = new Set([...(found ?? [])].map(drawnAs));
  for (const part of document.querySelectorAll('#drawing svg [data-path]')) {
    part.classList.toggle('match', paths.has(part.dataset.path));
  }
}

// Replace the one card of a fold by a card for each block: copies of the first block's card with the others' paths.
function unfold(first) {
  const card = document.querySelector(`.block[data-path="${CSS.escape(first)}"]`);
  const fold = folds.get(first);
  if (!card || !fold || card.classList.contains('single')) return;
  unfolded.add(first);
  card.querySelector('.fold').remove();
  card.classList.add('single');
  const cards = fold.slice(1).map((path) => renamed(card.cloneNode(true), first, path));
  card.after(...cards);
  card.querySelector('b').textContent = first;
  showDrawingOpen();
  showChosen();
}

function renamed(card, from, to) {
  card.querySelector('b').textContent = to;
  card.querySelector('.toggle').setAttribute('aria-label', `open or close ${to}`);
  for (const part of [card, ...card.querySelectorAll('[data-path], [data-toggle]')]) {
    for (const key of ['path', 'toggle']) {
      const path = part.dataset[key];
      if (path === from || path?.startsWith(`${from}.`)) part.dataset[key] = to + path.slice(from.length);
    }
  }
  if (open.has(from)) open.add(to);
  return card;
}

function setScale(to) {
  const pane = $('drawing-pane');
  const middle = (pane.scrollTop + pane.clientHeight / 2) / scale;
  scale = to;
  $('drawing').style.zoom = scale;
  $('zoom').textContent = `${Math.round(100 * scale)} %`;
  pane.scrollTop = middle * scale - pane.clientHeight / 2;
}

function magnify(steps) {
  const at = SCALES.findIndex((known) => known >= scale - 0.001);
  setScale(SCALES[Math.min(Math.max(at + steps, 0), SCALES.length - 1)]);
}

// Return the paths of all visible parts, each once, in drawing order.
function stops() {
  const seen = [...document.querySelectorAll('#drawing [data-path]')].filter((part) => part.getClientRects().length);
  return [...new Set(seen.map((part) => part.dataset.path))];
}

function walk(event) {
  const all = stops();
  const at = all.indexOf(drawnAs(chosen));
  const inside = stages.includes(chosen) || blocks.has(chosen);
  const to = {
    ArrowDown: () => choose(all[Math.min(at + 1, all.length - 1)]),
    ArrowUp: () => choose(all[Math.max(at - 1, 0)]),
    ArrowRight: () => (inside && !open.has(chosen) ? toggle(chosen) : choose(all[Math.min(at + 1, all.length - 1)])),
    ArrowLeft: () => (inside && open.has(chosen) ? toggle(chosen) : choose(rows.get(chosen)?.parent || all[0])),
    Home: () => choose(all[0]),
    End: () => choose(all[all.length - 1]),
    Enter: () => toggle(chosen),
    ' ': () => toggle(chosen),
    u: () => folds.has(chosen) && unfold(folds.get(chosen)[0]),
  }[event.key];
  if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  to();
}

function point(event) {
  const path = event.target.closest?.('[data-path]')?.dataset.path;
  const row = rows.get(path);
  const tip = $('tip');
  tip.hidden = !row || event.pointerType === 'touch';
  if (tip.hidden) return;
  const cost = [
    [row.parameters, 'parameters'],
    [row.macs, 'MACs'],
  ].filter(([number]) => number);
  const costs = cost.map(([number, what]) => `${number.toLocaleString('en-US')} ${what}`).join(', ');
  const shapes = `${row.operation}: ${row.in.join('x')} to ${row.out.join('x')}`;
  tip.replaceChildren(element('b', { textContent: path }), shapes, element('div', { textContent: costs }));
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}

function startDrawing() {
  const drawing = $('drawing');
  drawing.addEventListener('click', (event) => {
    const toggled = event.target.closest('[data-toggle]');
    const folded = event.target.closest('.fold');
    const part = event.target.closest('[data-path]');
    if (toggled) toggle(toggled.dataset.toggle);
    else if (folded) unfold(folded.closest('.block').dataset.path);
    else if (part) choose(part.dataset.path);
  });
  drawing.addEventListener('dblclick', (event) => {
    const part = event.target.closest('[data-path]');
    if (part && !event.target.closest('button')) toggle(part.dataset.path);
  });
  drawing.addEventListener('keydown', walk);
  drawing.addEventListener('pointermove', point);
  drawing.addEventListener('pointerleave', () => ($('tip').hidden = true));
  $('drawing-pane').addEventListener(
    'wheel',
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      magnify(event.deltaY < 0 ? 1 : -1);
    },
    { passive: false },
  );
}
