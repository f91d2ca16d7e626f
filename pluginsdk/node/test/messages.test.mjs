import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { services } from '../lib/messages.mjs';

const descriptors = readFileSync(new URL('../lib/handler.binpb', import.meta.url));
// Another implementation, which gRPC brings along.
const loader = createRequire(import.meta.resolve('@grpc/grpc-js'))('@grpc/proto-loader');
const theirs = loader.loadFileDescriptorSetFromBuffer(descriptors, { longs: Number, enums: String, defaults: false });
const ours = services(descriptors);

/** Every direction of every method. */
const codecs = Object.entries(ours).flatMap(([service, methods]) => Object.entries(methods).flatMap(([name, mine]) => ['request', 'response'].map((side) => ({
  name: `${service}/${name} ${side}`, mine, their: theirs[service][name], write: `${side}Serialize`, read: `${side}Deserialize`,
  type: theirs[service][name][`${side}Type`].type,
}))));

test('the services are the same', () => {
  assert.deepEqual(Object.keys(ours).sort(), ['blocks.handler.v1.HandlerService', 'blocks.handler.v1.HostService']);
  for (const { name, mine, their } of codecs) {
    for (const member of ['path', 'requestStream', 'responseStream']) assert.equal(mine[member], their[member], name);
  }
});

// Values that are the same in every run.
let state = 1;
const random = (n) => {
  state = (state * 48271) % 2147483647;
  return state % n;
};
const choose = (...values) => values[random(values.length)];

const types = new Map();
for (const definitions of [loader.loadFileDescriptorSetFromBuffer(descriptors, {})]) {
  for (const [name, d] of Object.entries(definitions)) if (d.type) types.set(name, d.type);
}
const named = (field) => types.get(field.typeName.replace(/^\./, '')) ?? types.get([...types.keys()].find((name) => name.endsWith(`.${field.typeName}`)));

/** Some value for a field of a descriptor. */
function valueOf(f, nested) {
  const inner = nested.find((m) => m.name === f.typeName);
  switch (f.type) {
    case 'TYPE_STRING': return choose('', 'a', 'ü 😀', 'x'.repeat(200), '__proto__');
    case 'TYPE_BYTES': return Buffer.alloc(choose(0, 1, 127, 128, 70_000), 7);
    case 'TYPE_BOOL': return choose(true, false);
    case 'TYPE_INT32': return choose(0, 1, 127, 128, -1, -(2 ** 31), 2 ** 31 - 1);
    case 'TYPE_INT64': return choose(0, 1, 300, -1, 2 ** 32, -(2 ** 40), Number.MAX_SAFE_INTEGER);
    case 'TYPE_ENUM': return choose(...named(f).value.map((v) => v.name));
    case 'TYPE_MESSAGE': return messageOf(inner ?? named(f));
    default: throw new Error(`no value for ${f.type}`);
  }
}

function messageOf(type) {
  const nested = type.nestedType ?? [];
  const value = {};
  const taken = new Set(); // one of each oneof
  for (const f of type.field) {
    if (random(3) === 0 || (f.oneofIndex !== undefined && !f.proto3Optional && taken.has(f.oneofIndex) && type.oneofDecl.length > 0)) continue;
    if (nested.find((m) => m.name === f.typeName)?.options?.mapEntry) continue; // the other does not know maps
    if (f.label === 'LABEL_REPEATED') value[f.name] = Array.from({ length: 1 + random(3) }, () => valueOf(f, nested));
    else {
      value[f.name] = valueOf(f, nested);
      if (type.oneofDecl.length > 0) taken.add(f.oneofIndex);
    }
  }
  return value;
}

const tidy = (value) => JSON.stringify(value, (_, v) => (v?.type === 'Buffer' ? v.data.length : v));

test('what one writes the other reads', () => {
  for (const { name, mine, their, write, read, type } of codecs) {
    for (let i = 0; i < 60; i += 1) {
      const value = messageOf(type);
      const expected = tidy(their[read](their[write](value)));
      assert.equal(tidy(sorted(mine[read](their[write](value)))), tidy(sorted(JSON.parse(expected))), `${name}: theirs, read here`);
      assert.equal(tidy(sorted(their[read](mine[write](value)))), tidy(sorted(JSON.parse(expected))), `${name}: ours, read there`);
    }
  }
});

/** With members in the order of their names. */
function sorted(value) {
  if (!value || typeof value !== 'object' || Buffer.isBuffer(value)) return value;
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]));
}

test('a map is an object', () => {
  const { requestSerialize, requestDeserialize } = ours['blocks.handler.v1.HandlerService'].StartTask;
  const trace_context = Object.fromEntries([['traceparent', '00-1-2-3'], ['', ''], ['__proto__', 'x']]);
  const bytes = requestSerialize({ task: { trace_context } });
  // Field 13 of field 1, three times; a member that is empty may be left out.
  assert.equal(bytes.toString('latin1').split('\x6a').length, 4);
  const got = requestDeserialize(bytes).task.trace_context;
  assert.deepEqual(Object.entries(got), Object.entries(trace_context));
});

test('bytes that are no message end in an error or a message', () => {
  for (const { name, mine, write, read, type } of codecs) {
    for (let i = 0; i < 50; i += 1) {
      const bytes = Buffer.from(mine[write](messageOf(type)));
      for (let n = 0; n < 4 && bytes.length > 0; n += 1) bytes[random(bytes.length)] = random(256);
      for (const cut of [bytes, bytes.subarray(0, random(bytes.length + 1))]) {
        try {
          assert.equal(typeof mine[read](cut), 'object');
        } catch (err) {
          assert.ok(err instanceof RangeError, `${name}: ${err.stack}`);
        }
      }
    }
  }
});

test('what cannot be sent is refused', () => {
  const { StartTask } = ours['blocks.handler.v1.HandlerService'];
  assert.throws(() => StartTask.responseSerialize({ artifact: { data: 'text' } }), /data must be bytes, not string/);
  assert.throws(() => StartTask.requestSerialize({ task: { kind: 'NONE' } }), /kind cannot be NONE/);
  // A field that is not known yet is left out, a value of an enum is a number.
  assert.deepEqual(StartTask.requestDeserialize(Buffer.from([0x0a, 0x05, 0x18, 0x63, 0xf8, 0x7f, 0x01])), { task: { kind: 99 } });
});
