// A gRPC server with nothing around it, in place of a handler: it shows what the library itself costs.
// usage: node bare.cjs NODE_MODULES

const { createRequire } = require('node:module');

const grpc = createRequire(`${process.argv[2]}/`)('@grpc/grpc-js');

const ANSWERS = [Buffer.from('\x12\x18\x0a\x0c\x12\x0atext/plain\x12\x06hello!\x18\x01'), Buffer.from('\x1a\x00')];
const same = (bytes) => bytes;

const server = new grpc.Server();
server.addService({
  StartTask: {
    path: '/blocks.handler.v1.HandlerService/StartTask', requestStream: false, responseStream: true,
    requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
  },
}, {
  StartTask(call) { // like echo: an artifact, then an empty result
    for (const answer of ANSWERS) call.write(answer);
    call.end();
  },
});
const socket = `${process.env.PLUGIN_UNIX_SOCKET_DIR}/bare.sock`;
server.bindAsync(`unix:${socket}`, grpc.ServerCredentials.createInsecure(), (err) => {
  if (err) throw err;
  process.stdout.write(`1|1|unix|${socket}|grpc|\n`);
});
