// Makes headlines of a text with a model behind HTTP.
import type { HandlerResult, StartTaskMessage, TaskContext } from '@blocks-network/sdk';
import { titleCase } from './lib/case';

interface Answer { headlines: string[] }

export default async function handler(task: StartTaskMessage, ctx?: TaskContext): Promise<HandlerResult> {
  const parts = (task.requestParts ?? []) as Array<{ partId?: string; text?: string }>;
  const text = parts.find((p) => p.partId === 'request')?.text ?? parts[0]?.text;
  if (!text?.trim()) throw new Error('There is no text.');
  ctx?.reportStatus('writing');
  const response = await fetch(process.env.MODEL_URL!, { method: 'POST', body: JSON.stringify({ text }), signal: ctx?.cancelSignal });
  if (!response.ok) throw new Error(`The model answered ${response.status}.`);
  const { headlines } = (await response.json()) as Answer;
  console.log('made %d headlines', headlines.length);
  return {
    artifacts: headlines.map((line, i) => ({ data: titleCase(line), mimeType: 'text/plain', outputId: i === 0 ? 'result' : undefined })),
  } as HandlerResult;
}
