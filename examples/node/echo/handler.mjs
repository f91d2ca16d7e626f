// Sends back the text that it is given.

export default async function handler(task, ctx) {
  const part = task.requestParts.find((p) => typeof p?.text === 'string');
  ctx?.reportStatus('echoing');
  const text = part ? part.text : JSON.stringify(task.requestParts);
  return { artifacts: [{ data: `Echoed request: ${text}`, mimeType: 'text/plain', outputId: 'reply' }] };
}
