// What can be written at a place in a spec, and what stands there: read from the JSON Schema of specs.

import { isMap, isPair, isScalar, isSeq, parseDocument, visit } from 'yaml';

const HERE = '__here__';
const WORD = /[\w./-]*/;

let root;
let names; // { networks: [name], blocks: { name: { about, takes } } }, of the bundled specs
const defined = (location) => root.definitions[location.split('/').at(-1)];

export function setSchema(schema, bundled) {
  root = schema;
  names = bundled;
}

// -- schemas ----------------------------------------------------------------------------------------------------

const kindOf = (value) => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value);

// Whether a value fits a schema, as far as the conditions of our schema need it. Forms of names are not checked.
function fits(schema, value) {
  if (schema.$ref) return fits(defined(schema.$ref), value);
  const isObject = kindOf(value) === 'object';
  const isMissingOrFits = (key) => !(key in value) || fits(schema.properties[key], value[key]);
  return (
    (!schema.type || schema.type === kindOf(value) || ['integer', 'number'].includes(schema.type)) &&
    (!('const' in schema) || schema.const === value) &&
    (!schema.enum || schema.enum.includes(value)) &&
    (!schema.required || !isObject || schema.required.every((key) => key in value)) &&
    (!isObject || Object.keys(schema.properties ?? {}).every(isMissingOrFits)) &&
    (schema.allOf ?? []).every((each) => fits(each, value)) &&
    (!schema.anyOf || schema.anyOf.some((each) => fits(each, value))) &&
    !(schema.not && fits(schema.not, value))
  );
}

// Yield a schema, and all those that it applies to a value.
function* applied(schema, value) {
  yield schema;
  if (schema.$ref) yield* applied(defined(schema.$ref), value);
  for (const each of [...(schema.allOf ?? []), ...(schema.anyOf ?? [])]) yield* applied(each, value);
  if (schema.if) {
    const next = fits(schema.if, value) ? schema.then : schema.else;
    if (next) yield* applied(next, value);
  }
}

// Return all schemas that apply at a path of a spec.
function schemasAt(spec, path) {
  let found = [...applied(root, spec)];
  let value = spec;
  for (const key of path) {
    value = value?.[key];
    const named = (schema) => schema.properties?.[key] ?? schema.additionalProperties;
    const inside = (schema) => (typeof key === 'number' ? schema.items : named(schema));
    const schemas = found.map(inside).filter((schema) => schema && typeof schema === 'object');
    found = [...new Set(schemas.flatMap((schema) => [...applied(schema, value)]))];
  }
  return found;
}

// -- places in the text -----------------------------------------------------------------------------------------

// Return the paths of all keys and values of a text with their nodes.
function* placesIn(document) {
  const places = [];
  visit(document, {
    Node(key, node, above) {
      if (key === 'key') places.push({ node, path: pathOf(above, node), isKey: true });
      else places.push({ node, path: pathOf([...above, node]), isKey: false });
    },
  });
  yield* places;
}

function pathOf(nodes, last) {
  const path = [];
  nodes.forEach((node, at) => {
    if (isPair(node)) path.push(String(node.key?.value ?? node.key));
    if (isSeq(node) && nodes[at + 1]) path.push(node.items.indexOf(nodes[at + 1]));
  });
  return path;
}

// Return what the cursor is at: the word around it, the path of its mapping or value, and the spec with it replaced.
function cursorAt(text, offset) {
  const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1, offset);
  const typed = line.match(/[\w./-]*$/)[0];
  const before = line.slice(0, line.length - typed.length);
  if (/(^|\s)#/.test(before)) return null;
  const from = offset - typed.length;
  const rest = text.slice(offset + text.slice(offset).match(WORD)[0].length);
  const isValue = /(:\s+|^\s*['"]?[\w.-]+:)$/.test(before);
  const filler = isValue || /^\s*:(\s|$)/.test(rest) ? HERE : `${HERE}: 0`;
  const document = parseDocument(`${text.slice(0, from)}${filler}${rest}`, { strict: false, logLevel: 'silent' });
  for (const { node, path, isKey } of placesIn(document)) {
    if (!isScalar(node) || node.value !== HERE) continue;
    const spec = document.toJS() ?? {};
    const inside = isKey ? path.slice(0, -1) : path;
    const holder = inside.reduce((value, key) => value?.[key], spec);
    const isItem = isKey && typeof inside.at(-1) === 'number' && Object.keys(holder ?? {}).length === 1;
    if (isKey && holder) delete holder[HERE];
    return { from, typed, spec, path: inside, isKey, isItem, hasColon: !filler.endsWith('0') && isKey };
  }
  return null;
}

// -- completion -------------------------------------------------------------------------------------------------

// Return what can be written at an offset: { from, options }, with options for CodeMirror, or null.
export function complete(text, offset) {
  const cursor = cursorAt(text, offset);
  if (!cursor) return null;
  const options = [...(cursor.isKey ? keys(cursor) : []), ...(!cursor.isKey || cursor.isItem ? values(cursor) : [])];
  const unique = new Map(options.map((option) => [`${option.label} ${option.type}`, option]));
  return { from: cursor.from, typed: cursor.typed, options: [...unique.values()] };
}

function* keys({ spec, path, hasColon }) {
  const holder = path.reduce((value, key) => value?.[key], spec) ?? {};
  const isEmpty = !Object.keys(holder).length;
  const apply = (key) => (hasColon ? key : `${key}: `);
  for (const schema of schemasAt(spec, path)) {
    for (const [key, at] of [...Object.entries(schema.properties ?? {}), ...(isEmpty ? choices(schema) : [])]) {
      if (key in holder || !at.description) continue; // a key without a description may only be removed
      const detail = 'default' in at ? `default ${at.default}` : '';
      yield { label: key, type: 'property', info: at.description ?? '', detail, apply: apply(key) };
    }
  }
  for (const key of argumentsOf(spec, holder.block ?? holder.op)) {
    if (!(key in holder)) yield { label: key, type: 'variable', detail: 'argument', apply: apply(key) };
  }
}

// Yield the keys that decide which form a mapping has, with their schemas: for an empty mapping, all forms are open.
function* choices(schema) {
  if (!schema.if || !schema.then) return;
  const deciding = new Set(decidingKeys(schema.if));
  for (const { properties } of applied(schema.then, {})) {
    for (const [key, at] of Object.entries(properties ?? {})) if (deciding.has(key)) yield [key, at];
  }
}

function decidingKeys(condition) {
  const isOneName = Object.values(condition.properties ?? {}).some((each) => 'const' in each);
  const inside = [...(condition.allOf ?? []), ...(condition.anyOf ?? [])].flatMap(decidingKeys);
  return [...(isOneName ? [] : (condition.required ?? [])), ...inside];
}

// Return the arguments of a block, or of an own name.
function argumentsOf(spec, name) {
  const own = spec.blocks?.[name]?.takes;
  return own ? Object.keys(own) : (names.blocks[name]?.takes ?? []);
}

function* values({ spec, path }) {
  const key = path.at(-1);
  if (path.length === 1 && key === 'extends') {
    for (const label of names.networks) yield { label, type: 'class', detail: 'bundled network' };
    return;
  }
  const block = (label, detail, info, boost) => ({ label, type: 'function', detail, info, boost });
  const blocks = [
    ...Object.keys(spec.blocks ?? {}).map((label) => block(label, 'block here', '', 1)),
    ...Object.entries(names.blocks).map(([label, { about }]) => block(label, 'block', about, 0)),
  ];
  if (key === 'block' || path.at(-2) === 'block') return yield* blocks;
  const schemas = schemasAt(spec, path);
  const boost = schemas.some((schema) => 'const' in schema) ? -1 : 1;
  for (const schema of schemas) {
    const listed = 'const' in schema ? [schema.const] : (schema.enum ?? []);
    for (const value of listed) yield { label: String(value), type: 'enum', info: schema.description ?? '' };
    if (schema.type === 'boolean') yield* ['true', 'false'].map((label) => ({ label, type: 'keyword' }));
  }
  if (!schemas.some((schema) => schema.$ref?.endsWith('/reference'))) return;
  const takes = { ...spec.takes, ...(path[0] === 'blocks' ? spec.blocks?.[path[1]]?.takes : {}) };
  for (const label of Object.keys(takes)) yield { label, type: 'variable', detail: 'argument', boost };
  for (const label of Object.keys(spec.layers ?? {})) yield { label, type: 'variable', detail: 'layer', boost };
}

// -- hover ------------------------------------------------------------------------------------------------------

// Return the text for what stands at an offset: { from, to, text }, or null.
export function describe(text, offset) {
  const document = parseDocument(text, { strict: false, logLevel: 'silent' });
  for (const { node, path, isKey } of placesIn(document)) {
    if (!isScalar(node) || !node.range || offset < node.range[0] || offset > node.range[1]) continue;
    const found = isKey ? describeKey(document.toJS(), path) : describeValue(document.toJS(), path, node.value);
    return found ? { from: node.range[0], to: node.range[1], text: found } : null;
  }
  return null;
}

function describeKey(spec, path) {
  const key = path.at(-1);
  const schemas = schemasAt(spec, path.slice(0, -1)).map((schema) => schema.properties?.[key]);
  const found = schemas.find((schema) => schema?.description);
  return found && `${found.description}${'default' in found ? ` Default: ${found.default}.` : ''}`;
}

function describeValue(spec, path, value) {
  if (path.at(-1) === 'block') return names.blocks[value]?.about;
  return schemasAt(spec, path).find((schema) => schema.const === value && schema.description)?.description;
}
