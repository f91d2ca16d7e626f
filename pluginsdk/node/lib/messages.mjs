// Protocol Buffers, as far as the contract needs them: messages become objects and back by the descriptors that `make
// generate` writes. A library for all of the format takes a third of the time that a handler has to get ready.
//
// Objects have the field names of the contract; fields that were not sent are not there. Enums are texts, numbers of 64 bits
// are numbers, bytes are buffers.

// Wire types.
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** The types of fields that are known here, by their number in a descriptor. */
const KINDS = { 3: 'int64', 4: 'uint64', 5: 'int32', 8: 'bool', 9: 'string', 11: 'message', 12: 'bytes', 13: 'uint32', 14: 'enum' };
const LENGTHS = ['string', 'message', 'bytes'];
const REPEATED = 3;

/** A field: its name, its kind, and for messages and enums its type. */
const field = (name, kind, more) => ({ name, kind, ...more });
const many = { repeated: true };

/** The type of a message from its fields by number. */
function message(fields) {
  const type = { fields: new Map(Object.entries(fields).map(([number, f]) => [Number(number), f])) };
  for (const [number, f] of type.fields) f.number = number;
  return type;
}

// The messages of descriptors, as far as they are read.
const ENUM = message({
  1: field('name', 'string'), 2: field('value', 'message', { ...many, type: message({ 1: field('name', 'string'), 2: field('number', 'int32') }) }),
});
const MESSAGE = message({
  1: field('name', 'string'),
  2: field('field', 'message', {
    ...many,
    type: message({ 1: field('name', 'string'), 3: field('number', 'int32'), 4: field('label', 'int32'), 5: field('type', 'int32'), 6: field('type_name', 'string') }),
  }),
  4: field('enum_type', 'message', { ...many, type: ENUM }),
  7: field('options', 'message', { type: message({ 7: field('map_entry', 'bool') }) }),
});
MESSAGE.fields.set(3, field('nested_type', 'message', { ...many, type: MESSAGE, number: 3 }));
const SERVICE = message({
  1: field('name', 'string'),
  2: field('method', 'message', {
    ...many,
    type: message({
      1: field('name', 'string'), 2: field('input_type', 'string'), 3: field('output_type', 'string'),
      5: field('client_streaming', 'bool'), 6: field('server_streaming', 'bool'),
    }),
  }),
});
const FILES = message({
  1: field('file', 'message', {
    ...many,
    type: message({
      2: field('package', 'string'), 4: field('message_type', 'message', { ...many, type: MESSAGE }),
      5: field('enum_type', 'message', { ...many, type: ENUM }), 6: field('service', 'message', { ...many, type: SERVICE }),
    }),
  }),
});

/** The services in a set of descriptors by their full names, in the form that gRPC takes. */
export function services(descriptors) {
  const types = new Map();
  const { file: files = [] } = decode(FILES, descriptors);
  for (const file of files) {
    collect(types, `.${file.package}`, file.message_type, file.enum_type);
  }
  for (const type of types.values()) type.complete?.(types);
  for (const type of types.values()) if (type.fields) prepare(type);
  const found = {};
  for (const file of files) {
    for (const service of file.service ?? []) {
      const name = `${file.package}.${service.name}`;
      found[name] = Object.fromEntries((service.method ?? []).map((m) => [m.name, methodOf(types, name, m)]));
    }
  }
  return found;
}

/** Notes what is needed to write a message. */
function prepare(type) {
  type.list = [...type.fields.values()];
  for (const f of type.list) {
    f.long = LENGTHS.includes(f.kind);
    const tag = f.number * 8 + (f.long ? BYTES : VARINT);
    f.tag = Buffer.alloc(lengthOf(tag));
    putNumber(f.tag, 0, tag);
  }
}

function methodOf(types, service, m) {
  const [request, response] = [types.get(m.input_type), types.get(m.output_type)];
  return {
    path: `/${service}/${m.name}`, requestStream: Boolean(m.client_streaming), responseStream: Boolean(m.server_streaming),
    requestSerialize: (value) => encode(request, value), requestDeserialize: (bytes) => decode(request, bytes),
    responseSerialize: (value) => encode(response, value), responseDeserialize: (bytes) => decode(response, bytes),
  };
}

/** Notes the types in a file or in a message. Their fields are completed when all types are known. */
function collect(types, scope, messages = [], enums = []) {
  for (const e of enums) {
    const names = new Map((e.value ?? []).map((v) => [v.number ?? 0, v.name]));
    types.set(`${scope}.${e.name}`, { names, numbers: new Map([...names].map(([number, name]) => [name, number])) });
  }
  for (const m of messages) {
    const type = { fields: new Map(), entry: Boolean(m.options?.map_entry) };
    type.complete = () => {
      for (const f of m.field ?? []) {
        const kind = KINDS[f.type];
        if (!kind) throw new TypeError(`the field ${f.name} of ${m.name} is of type ${f.type}, which this package does not know`);
        type.fields.set(f.number, { name: f.name, number: f.number, kind, repeated: f.label === REPEATED, type: types.get(f.type_name) });
      }
    };
    types.set(`${scope}.${m.name}`, type);
    collect(types, `${scope}.${m.name}`, m.nested_type, m.enum_type);
  }
}

/** Reads bytes. What is cut off throws, as gRPC expects it. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  /** The two halves of a number. */
  varint() {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.bytes.length) break;
      const byte = this.bytes[this.at];
      this.at += 1;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) return [low, high];
    }
    throw new RangeError('a message is cut off, or a number in it is too long');
  }

  unsigned() {
    const [low, high] = this.varint();
    return (high >>> 0) * 2 ** 32 + (low >>> 0);
  }

  take(length) {
    const from = this.at;
    if (length > this.bytes.length - from) throw new RangeError('a message is cut off');
    this.at += length;
    return this.bytes.subarray(from, this.at);
  }

  skip(wire) {
    if (wire === VARINT) this.varint();
    else if (wire === FIXED64) this.take(8);
    else if (wire === FIXED32) this.take(4);
    else if (wire === BYTES) this.take(this.unsigned());
    else throw new RangeError(`a message has a field of the unknown form ${wire}`);
  }
}

function decode(type, bytes) {
  const reader = new Reader(bytes);
  const value = {};
  while (reader.at < bytes.length) {
    const tag = reader.unsigned();
    const wire = tag & 7;
    const f = type.fields.get(Math.floor(tag / 8));
    const long = f && (f.long ?? LENGTHS.includes(f.kind));
    if (!f || (long ? wire !== BYTES : wire !== VARINT && !(f.repeated && wire === BYTES))) {
      reader.skip(wire); // a newer contract, or not ours
    } else if (f.type?.entry) {
      const { key = '', value: to = '' } = decode(f.type, reader.take(reader.unsigned()));
      value[f.name] = { ...value[f.name], ...Object.fromEntries([[key, to]]) };
    } else if (!f.repeated) {
      value[f.name] = long ? longOf(f, reader.take(reader.unsigned())) : numberOf(f, reader);
    } else if (long) {
      (value[f.name] ??= []).push(longOf(f, reader.take(reader.unsigned())));
    } else {
      const all = (value[f.name] ??= []);
      if (wire === VARINT) all.push(numberOf(f, reader));
      else for (const end = reader.unsigned() + reader.at; reader.at < end;) all.push(numberOf(f, reader));
    }
  }
  return value;
}

function longOf(f, bytes) {
  if (f.kind === 'string') return bytes.toString('utf8');
  return f.kind === 'bytes' ? bytes : decode(f.type, bytes);
}

function numberOf(f, reader) {
  const [low, high] = reader.varint();
  switch (f.kind) {
    case 'bool': return low !== 0 || high !== 0;
    case 'enum': return f.type.names.get(low) ?? low;
    case 'int32': return low;
    case 'uint32': return low >>> 0;
    default: return (f.kind === 'int64' ? high : high >>> 0) * 2 ** 32 + (low >>> 0);
  }
}

function encode(type, value) {
  const sizes = [];
  const bytes = Buffer.allocUnsafe(measure(type, value, sizes));
  put(type, value, bytes, 0, sizes.reverse());
  return bytes;
}

/** The values of a field, none where it is left out. */
function valuesOf(f, value) {
  const all = value[f.name];
  if (all === undefined || all === null) return NONE;
  if (f.type?.entry) return Object.entries(all).map(([key, to]) => ({ key, value: to }));
  return f.repeated ? all : [all];
}

const NONE = [];

/** How many bytes a message takes. sizes gets those of texts, bytes and messages in it, in the order in which they are written. */
function measure(type, value, sizes) {
  let size = 0;
  for (const f of type.list) {
    for (const one of valuesOf(f, value)) {
      if (!f.long) {
        size += f.tag.length + lengthOf(plain(f, one));
        continue;
      }
      const place = sizes.push(0) - 1;
      if (f.kind === 'message') sizes[place] = measure(f.type, one, sizes);
      else if (f.kind === 'string') sizes[place] = Buffer.byteLength(String(one), 'utf8');
      else if (one instanceof Uint8Array) sizes[place] = one.length;
      else throw new TypeError(`${f.name} must be bytes, not ${typeof one}`);
      size += f.tag.length + lengthOf(sizes[place]) + sizes[place];
    }
  }
  return size;
}

/** Writes a message, and returns where it ends. The sizes are taken from the end. */
function put(type, value, bytes, at, sizes) {
  for (const f of type.list) {
    for (const one of valuesOf(f, value)) {
      for (const byte of f.tag) bytes[at++] = byte;
      if (!f.long) {
        at = putNumber(bytes, at, plain(f, one));
        continue;
      }
      const size = sizes.pop();
      at = putNumber(bytes, at, size);
      if (f.kind === 'message') put(f.type, one, bytes, at, sizes);
      else if (f.kind === 'string') bytes.write(String(one), at, size, 'utf8');
      else bytes.set(one, at);
      at += size;
    }
  }
  return at;
}

/** How many bytes a number takes. */
function lengthOf(n) {
  if (n < 0) return 10;
  let length = 1;
  for (; n > 127; n = Math.floor(n / 128)) length += 1;
  return length;
}

function putNumber(bytes, at, n) {
  if (n < 0) {
    let rest = BigInt.asUintN(64, BigInt(n));
    for (; rest > 127n; rest >>= 7n) bytes[at++] = Number(rest & 127n) | 128;
    bytes[at++] = Number(rest);
    return at;
  }
  for (; n > 127; n = Math.floor(n / 128)) bytes[at++] = (n % 128) | 128;
  bytes[at++] = n;
  return at;
}

/** The number by which a value is sent. */
function plain(f, value) {
  if (f.kind === 'bool') return value ? 1 : 0;
  const n = f.kind === 'enum' && typeof value === 'string' ? f.type.numbers.get(value) : Number(value);
  if (!Number.isSafeInteger(n)) throw new TypeError(`${f.name} cannot be ${value}`);
  return n;
}
