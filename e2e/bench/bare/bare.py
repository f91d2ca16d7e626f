"""A gRPC server with nothing around it, in place of a handler: it shows what the library itself costs."""

import asyncio
import os

import grpc.aio

ANSWERS = [b"\x12\x18\x0a\x0c\x12\x0atext/plain\x12\x06hello!\x18\x01", b"\x1a\x00"]


async def start_task(request, context):
    for answer in ANSWERS:  # like echo: an artifact, then an empty result
        yield answer


async def main():
    server = grpc.aio.server()
    methods = {"StartTask": grpc.unary_stream_rpc_method_handler(start_task)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("blocks.handler.v1.HandlerService", methods)])
    socket = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "bare.sock")
    server.add_insecure_port("unix:" + socket)
    await server.start()
    print(f"1|1|unix|{socket}|grpc|", flush=True)
    await server.wait_for_termination()


asyncio.run(main())
