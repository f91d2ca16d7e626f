// Adds two numbers: a form input, as an object in the text of the part or as members of the part.

export default async function handler(task) {
  for (const part of task.requestParts) {
    const { a, b } = formOf(part);
    if (Number.isFinite(a) && Number.isFinite(b)) return json({ ok: true, a, b, sum: a + b });
  }
  throw new Error('the request needs the numbers a and b');
}

function formOf(part) {
  if (typeof part?.text !== 'string') return part ?? {};
  try {
    return JSON.parse(part.text) ?? {};
  } catch {
    return {};
  }
}

function json(value) {
  return { artifacts: [{ data: JSON.stringify(value, null, 2), mimeType: 'application/json', outputId: 'sum' }] };
}
