// The worker: runs the core in Pyodide, so that the page stays responsive while a network is drawn.

import { loadPyodide } from './pyodide/pyodide.mjs';

const PACKAGES = '/packages';
const START = `
import json, sys
from pathlib import Path
sys.path.insert(0, '${PACKAGES}')
from session import Session
session = None

def start(text):
    global session
    session = Session(Path('/home/pyodide'), text)
    return json.dumps({'html': session.html, 'problems': session.problems, 'wrong': session.wrong})

def edit(text):
    news = session.edit(text)
    return json.dumps({'news': news, 'problems': session.problems, 'wrong': session.wrong})

def make(kind):
    return json.dumps({'content': session.make(kind)})
`;

async function begin() {
  const [pyodide, core] = await Promise.all([
    loadPyodide({ indexURL: new URL('pyodide/', self.location).href }),
    fetch('core.zip').then((answer) => {
      if (!answer.ok) throw new Error(`core.zip: ${answer.status} ${answer.statusText}`);
      return answer.arrayBuffer();
    }),
  ]);
  pyodide.unpackArchive(core, 'zip', { extractDir: PACKAGES });
  pyodide.runPython(START);
  return pyodide;
}

const ready = begin();

self.addEventListener('message', async ({ data: { id, action, text } }) => {
  try {
    const pyodide = await ready;
    const call = pyodide.globals.get(action);
    const answer = JSON.parse(call(text));
    call.destroy();
    self.postMessage({ id, ...answer, memory: pyodide._module.HEAP8.length });
  } catch (error) {
    self.postMessage({ id, error: String(error.message ?? error).trim().split('\n').at(-1) });
  }
});
