// A conversation on one stream that both sides write. With blocksd's own package, because only that can end a pipe task.

import { serve } from '@blocksd/handler';

const answer = (text) => ({ text: `AGENT> ${text.toUpperCase()}` });

serve({
  name: 'bidi_chat',
  async run(task) {
    const stream = await task.createStream();
    await stream.write(answer(task.text('request')?.trim() || 'opening greeting'));
    for await (const event of stream) { // ends with the task
      if (typeof event?.text !== 'string') continue; // not for us
      const text = event.text.trim();
      await stream.write(answer(text));
      if (text.toLowerCase() === 'bye') break;
    }
    task.complete(); // nobody can mark the end of a stream that both sides write, so the task ends here
    await stream.end();
  },
});
