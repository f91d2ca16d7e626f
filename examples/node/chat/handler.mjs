// A conversation over several tasks: what was said before is kept in this process, so the card has one instance.

const MOST = 1000;
const PAUSE_MS = 20;

// What was said, by who calls and the name of the conversation; those that were used last are kept.
const conversations = new Map();

function say(key, text) {
  const said = conversations.get(key) ?? [];
  conversations.delete(key);
  conversations.set(key, said);
  if (conversations.size > MOST) conversations.delete(conversations.keys().next().value);
  said.push(text);
  said.splice(0, said.length - 100);
  return said;
}

function answer(said) {
  const last = said.at(-1);
  if (said.length === 1) return `You said "${last}", and that is the first thing you tell me.`;
  return `You said "${last}". Before that, you said "${said.at(-2)}". That makes ${said.length} messages.`;
}

export default async function handler(task, ctx) {
  const textOf = (id) => task.requestParts.find((part) => part.partId === id)?.text ?? '';
  const text = textOf('request').trim();
  if (!text) throw new Error('say something: the input "request" is empty');
  // The owner is who calls: nobody reads the conversations of others.
  const reply = answer(say(JSON.stringify([task.orgId, task.ownerId, textOf('conversation')]), text));
  if (ctx.hasStream) {
    const stream = await ctx.createStream();
    for (const word of reply.split(/(?<=\s)/)) {
      await stream.write(word);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    await stream.end();
  }
  return { artifacts: [{ data: reply, mimeType: 'text/plain', outputId: 'reply' }] };
}
