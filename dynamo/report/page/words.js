// A sentence as token ids. Words are split as the text data sets do it; one that is written exactly as the vocabulary
// has it is taken as it is.
const WORD = /[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}]|[\u200c\u200d](?=[\p{L}\p{N}]))*(?:'[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}]|[\u200c\u200d](?=[\p{L}\p{N}]))*)*|[!?]/gu;

function tokenise(text, numbers) {
  const parts = text.normalize("NFC").split(/\s+/).filter(part => part);
  return parts.flatMap(part => numbers.has(part) && !part.startsWith("<") ? [part]
    : part.toLowerCase().replaceAll("’", "'").match(WORD) ?? []);
}

/** The steps of a sentence: for each word what is shown and its id; words that the vocabulary lacks are <unk>. */
function readSentence(text, numbers) {
  if (!numbers.size) return readIds(text);
  const unknown = numbers.get("<unk>");
  return tokenise(text, numbers).map(word => {
    const id = numbers.get(word) ?? unknown;
    if (id === undefined) throw new Error(`the vocabulary has no word “${word}”`);
    return { name: numbers.has(word) ? word : `${word} (unknown)`, value: id };
  });
}

/** Without the words, the ids themselves. */
function readIds(text) {
  return text.split(/[\s,;]+/).filter(part => part).map(part => {
    const id = Number(part);
    if (!Number.isInteger(id) || id < 0 || id >= data.network.size)
      throw new Error(`“${part}” is no token id: give whole numbers from 0 to ${data.network.size - 1}`);
    return { name: part, value: id };
  });
}

/** A sequence of real vectors, one step a line. */
function readNumbers(text, size) {
  const lines = text.split("\n").filter(line => line.trim());
  return lines.map((line, at) => {
    const value = line.trim().split(/[\s,;]+/).map(Number);
    if (value.length !== size || !value.every(Number.isFinite))
      throw new Error(`line ${at + 1} must be ${size} number${size > 1 ? "s" : ""}`);
    return { name: String(at + 1), value };
  });
}
