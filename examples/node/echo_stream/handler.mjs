// Sends back the text word by word in a stream, for callers that want one, and as a whole in the end.

const PAUSE_MS = 20;

export default async function handler(task, ctx) {
  const text = task.requestParts.find((p) => typeof p?.text === 'string')?.text ?? '';
  if (ctx.hasStream) {
    const stream = await ctx.createStream();
    for (const word of text.split(/(?<=\s)/)) {
      if (ctx.isCancelled) break;
      await stream.write(word);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    await stream.end();
  }
  return { artifacts: [{ data: text, mimeType: 'text/plain', outputId: 'reply' }] };
}
