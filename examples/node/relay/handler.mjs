// Passes on what another agent streams, while that is still being made. With blocksd's own package, which need not be installed.

import { serve } from '@blocksd/handler';

const AGENT = 'node_echo_stream';

serve({
  async run(task) {
    const mine = task.hasStream ? await task.createStream() : undefined;
    const call = await task.call(AGENT, task.text('request') ?? '', { stream: true });
    const theirs = await call.stream(); // the only one; else by its name in their card
    const decoder = new TextDecoder(); // a piece may end within a character
    let said = '';
    for await (const piece of theirs) {
      const text = decoder.decode(piece, { stream: true }).toUpperCase();
      said += text;
      await mine?.write(text);
    }
    const end = await call.result();
    if (end.state !== 'completed') throw new Error(`${AGENT} did not complete its task: ${end.state} ${end.error ?? ''}`.trim());
    return { data: said, mimeType: 'text/plain', outputId: 'reply' };
  },
});
