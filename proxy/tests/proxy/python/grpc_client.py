"""Makes all kinds of calls to a server at the given port; says `fine` when all went as it should."""

import queue
import sys
import time

import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
unary = channel.unary_unary("/test.Calls/Unary")
server_stream = channel.unary_stream("/test.Calls/ServerStream")
client_stream = channel.stream_unary("/test.Calls/ClientStream")
both = channel.stream_stream("/test.Calls/Both")


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


answer, call = unary.with_call(b"x", metadata=(("word", "w"),), timeout=20)
assert answer == b"unary x w", answer
assert dict(call.initial_metadata())["first"] == "yes"
trailing = dict(call.trailing_metadata())
assert trailing["last"] == "yes" and trailing["left-bin"] == bytes([0, 255]), trailing

assert unary(b"y" * 3_000_000, timeout=20) == b"unary " + b"y" * 3_000_000 + b" "
assert list(server_stream(b"500", timeout=20)) == [b"%d" % number for number in range(500)]
assert client_stream(iter([b"z" * 1000] * 500), timeout=20) == b"500000"

# One message after the other: neither side waits for an end.
says = queue.Queue()
answers = both(iter(says.get, None), timeout=20)
for word in [b"one", b"two", b"three"]:
    says.put(word)
    assert next(answers) == b"heard " + word
says.put(None)
assert list(answers) == []

error = failure(lambda: unary(b"fail", timeout=20))
assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "told to fail: 100% \u00fc"), error
assert dict(error.trailing_metadata())["why"] == "asked for"
got = []
error = failure(lambda: got.extend(iter(server_stream(b"3", timeout=20).__next__, None)))
assert (error.code(), got) == (grpc.StatusCode.DATA_LOSS, []) or error.code() == grpc.StatusCode.DATA_LOSS

begun = time.monotonic()
error = failure(lambda: unary(b"sleep", timeout=0.5))
assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - begun < 10, error
begun = time.monotonic()
call = unary.future(b"sleep")
time.sleep(0.2)
assert call.cancel() and time.monotonic() - begun < 10

# The gateway's own words: no route, and nobody there.
error = failure(lambda: channel.unary_unary("/nobody.Knows/This")(b"", timeout=20))
assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
error = failure(lambda: channel.unary_unary("/dead.Service/Call")(b"", timeout=20))
assert error.code() == grpc.StatusCode.UNAVAILABLE, error
print("fine")
