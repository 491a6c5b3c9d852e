// A spec in the fragment of the page's address: compressed, in base64 without characters that addresses escape.

const LIMIT = 2 ** 18; // bytes of a spec that the core reads here

async function pass(bytes, stream, limit = Infinity) {
  const parts = [];
  let length = 0;
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    length += value.length;
    if (length > limit) {
      await reader.cancel();
      throw new Error(`it holds more than ${limit.toLocaleString('en-US')} bytes`);
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export async function pack(text) {
  const bytes = await pass(new TextEncoder().encode(text), new CompressionStream('deflate-raw'));
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return btoa(letters).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export async function unpack(packed) {
  const letters = atob(packed.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const text = await pass(bytes, new DecompressionStream('deflate-raw'), LIMIT);
  return new TextDecoder('utf-8', { fatal: true }).decode(text);
}
