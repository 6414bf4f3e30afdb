"""Says its port, then serves four kinds of calls. Messages are bytes: no code is generated."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def unary(request, context):
    said = dict(context.invocation_metadata())
    if request == b"fail":
        context.set_trailing_metadata((("why", "asked for"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "told to fail: 100% \u00fc")
    if request == b"sleep":
        time.sleep(30)
    context.send_initial_metadata((("first", "yes"),))
    context.set_trailing_metadata((("last", "yes"), ("left-bin", bytes([0, 255]))))
    return b"unary " + request + b" " + said.get("word", "").encode()


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number
    if int(request) == 3:
        context.abort(grpc.StatusCode.DATA_LOSS, "three is too many")


def client_stream(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield b"heard " + request


kinds = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", kinds),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
