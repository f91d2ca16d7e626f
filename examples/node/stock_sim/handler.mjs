// A feed of made-up quotes: a pipe task with a stream of events, until somebody ends it or its time is over.

import { setTimeout as sleep } from 'node:timers/promises';

const INTERVAL_MS = 1000;
const MAX_SYMBOLS = 50;

export default async function handler(task, ctx) {
  const stocks = symbols(task).map((symbol) => ({ symbol, price: 100 }));
  const quotes = await ctx.createStream({ metadata: { symbols: stocks.map((stock) => stock.symbol) } });
  for (let tick = 1; !ctx.isCancelled; tick += 1) {
    for (const stock of stocks) await quotes.write(next(stock, tick));
    await sleep(INTERVAL_MS, undefined, { signal: ctx.cancelSignal }).catch(() => {}); // it ends with the task
  }
}

function symbols(task) {
  const text = task.requestParts.find((part) => part.text)?.text ?? 'AAPL';
  const names = text.split(',').map((name) => name.trim().toUpperCase()).filter(Boolean);
  if (names.length === 0) throw new Error('the request names no symbol');
  if (names.length > MAX_SYMBOLS) throw new Error(`at most ${MAX_SYMBOLS} symbols can be watched at once`);
  return names;
}

/** Moves the price by up to a percent. */
function next(stock, tick) {
  const cents = (value) => Math.round(value * 100) / 100;
  const before = stock.price;
  stock.price = Math.max(0.01, cents(before * (0.99 + 0.02 * Math.random())));
  return { type: 'quote', symbol: stock.symbol, price: stock.price, change: cents(stock.price - before), tick, at: new Date().toISOString() };
}
