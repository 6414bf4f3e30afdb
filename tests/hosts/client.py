"""A Flight client that is not Tollhouse: each line says how an attempt ended."""
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

url, token = sys.argv[1].replace("grpc://", "grpc+tcp://"), sys.argv[2]
client = flight.FlightClient(url)


def options(said):
    headers = [(b"authorization", b"Bearer " + said.encode())] if said else []
    return flight.FlightCallOptions(headers=headers, timeout=20)


def attempt(name, what):
    try:
        print(f"{name}: {what()}")
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")


def begin(said, session):
    body = {"version": 1, "instance": "f00d" * 8, "session": session, "node": "elsewhere"}
    results = client.do_action(flight.Action("begin", json.dumps(body).encode()), options(said))
    return json.loads(next(results).body.to_pybytes())


def put(batch, said=token, note=None, path="requests"):
    writer, reader = client.do_put(flight.FlightDescriptor.for_path(path), batch.schema, options(said))
    try:
        if note is None:
            writer.write_batch(batch)
        else:
            writer.write_with_metadata(batch, json.dumps(note).encode())
        answer = json.loads(reader.read().to_pybytes())
        writer.done_writing()
    finally:
        writer.close()
    assert answer["lanes"] == {"0": 3}, answer
    return f"{batch.num_rows} rows"


def text(value, rows=3):
    return pa.array([value] * rows, pa.string_view())


def rows():
    columns = {
        "node": text("elsewhere"),
        "core": pa.array([0, 0, 0], pa.uint16()),
        "sequence": pa.array([1, 2, 3], pa.uint64()),
        "time": pa.array([1_790_000_000_000_000 + n for n in range(3)], pa.timestamp("us", tz="UTC")),
        "path": pa.array([f"/{n}" for n in (1, 2, 3)], pa.string_view()),
    }
    required = REQUIRED(columns)
    return pa.record_batch(list(required.values()), names=list(required))


def REQUIRED(columns):
    """The columns that every row has a value in, besides those given."""
    for name in ["workspace", "listener", "role", "protocol", "scheme", "method", "host", "path", "source", "outcome"]:
        columns.setdefault(name, text(name))
    for name, kind in [("config_version", pa.uint64()), ("request_bytes", pa.uint64()), ("response_bytes", pa.uint64()),
                       ("duration_us", pa.uint32())]:
        columns.setdefault(name, pa.array([7, 8, 9], kind))
    columns.setdefault("sampled", pa.array([False] * 3, pa.bool_()))
    columns.setdefault("request_id", pa.array([bytes([n] * 16) for n in (1, 2, 3)], pa.binary(16)))
    return columns


after = {"sequence": 3, "life_us": 1, "ordinal": 3}
note = {"version": 1, "instance": "f00d" * 8, "session": 1, "lanes": {"0": {"after": after}}}
batch = rows()
wrong = pa.record_batch([pa.array(["red"] * 3)], names=["colour"])
large = pa.record_batch([pa.array(["x" * (80 << 20)])], names=["path"])

def begin_as(instance):
    body = {"version": 1, "instance": instance, "session": 1, "node": "elsewhere"}
    return next(client.do_action(flight.Action("begin", json.dumps(body).encode()), options(token)))


attempt("no token", lambda: begin(None, 1))
attempt("wrong token", lambda: begin("f" * 32, 1))
attempt("no session", lambda: put(batch, note=note))
print("begun:", begin(token, 1))
attempt("a name like a lane's", lambda: begin_as("x/0"))
attempt("rows of a name like a lane's", lambda: put(batch, note={**note, "instance": "x/0"}))
attempt("wrong schema", lambda: put(wrong, note=note))
attempt("no metadata", lambda: put(batch))
attempt("wrong path", lambda: put(batch, note=note, path="elsewhere"))
attempt("too large", lambda: put(large, note=note))
attempt("accepted", lambda: put(batch, note=note))
attempt("again", lambda: put(batch, note=note))
attempt("an old session", lambda: begin(token, 1))
