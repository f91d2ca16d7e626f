// A certificate for an encrypted connection to the daemon: self-signed, for this process alone. Node.js makes keys and
// signatures, but no certificates.

import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

/** One value in DER. */
function tagged(tag, ...parts) {
  const content = Buffer.concat(parts);
  if (content.length < 128) return Buffer.concat([Buffer.from([tag, content.length]), content]);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(content.length);
  const length = size.subarray(size.findIndex((byte) => byte > 0));
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, content]);
}

const sequence = (...parts) => tagged(0x30, ...parts);
const hex = (text) => Buffer.from(text, 'hex');
const text = (tag, value) => tagged(tag, Buffer.from(value, 'latin1'));

// Object identifiers.
const ECDSA_SHA256 = sequence(hex('06082a8648ce3d040302'));
const COMMON_NAME = hex('0603550403');
const ALT_NAME = hex('0603551d11');
const KEY_USE = hex('0603551d25');
const SERVER = hex('06082b06010505070301');

/** A certificate for localhost in DER, and its key in PEM. It has no end (RFC 5280, 4.1.2.5): the process has one. */
export function certificate() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = sequence(tagged(0x31, sequence(COMMON_NAME, text(0x0c, 'localhost'))));
  const serial = randomBytes(16);
  serial[0] = 1; // a positive number in its shortest form
  const signed = sequence(
    tagged(0xa0, hex('020102')), // version 3
    tagged(0x02, serial), ECDSA_SHA256, name,
    sequence(text(0x17, '200101000000Z'), text(0x18, '99991231235959Z')), name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(
      sequence(ALT_NAME, tagged(0x04, sequence(text(0x82, 'localhost')))),
      sequence(KEY_USE, tagged(0x04, sequence(SERVER))),
    )),
  );
  const signature = tagged(0x03, Buffer.of(0), sign('sha256', signed, privateKey));
  return { der: sequence(signed, ECDSA_SHA256, signature), key: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
}

/** What a server needs whose only client has this certificate, and the server's own as the handshake line holds it. */
export function tlsFor(client) {
  const { der, key } = certificate();
  const base64 = der.toString('base64');
  const cert = `-----BEGIN CERTIFICATE-----\n${base64.match(/.{1,64}/g).join('\n')}\n-----END CERTIFICATE-----\n`;
  return { tls: { key, cert, ca: client, minVersion: 'TLSv1.2' }, line: base64.replaceAll('=', '') };
}
