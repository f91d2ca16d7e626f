// Asks two other agents at the same time, and joins their answers.

const PATIENCE_MS = 30_000;

export default async function handler(task, ctx) {
  const { text, a, b } = JSON.parse(task.requestParts.find((part) => part.partId === 'request').text);
  ctx.reportStatus('asking two agents');
  const [echo, adder] = await Promise.all([
    ask(ctx, 'node_echo', String(text ?? '')),
    ask(ctx, 'node_adder', JSON.stringify({ a, b })),
  ]);
  return { artifacts: [{ data: JSON.stringify({ echo, adder: JSON.parse(adder) }), mimeType: 'application/json', outputId: 'answer' }] };
}

/** The first output of an agent, as a text. */
async function ask(ctx, agentName, text) {
  const session = await ctx.taskClient.sendMessage({ agentName, requestParts: [{ partId: 'request', text }] });
  try {
    const end = await session.waitForTerminal(PATIENCE_MS);
    if (end.state !== 'completed') throw new Error(`${agentName} did not complete its task: ${end.state} ${end.error ?? ''}`.trim());
    const [output] = session.listArtifacts();
    if (!output) throw new Error(`${agentName} gave no output`);
    return Buffer.from((await session.downloadArtifact(output)).data).toString();
  } finally {
    session.close();
  }
}
