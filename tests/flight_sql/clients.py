"""ADBC, and calls of our own that no driver makes, against the Flight SQL door: `clients.py PART GRPC_URI SQL_URL [MORE...]`."""

import base64
import datetime
import decimal
import json
import os
import sys
import threading
import time
import urllib.request

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import grpc
import pyarrow
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions

part, uri, sql_url, *more = sys.argv[1:]
UTC = datetime.timezone.utc


def connect(token=None, **options):
    if token:
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {token}"
    return flight_sql.connect(uri, db_kwargs=options, autocommit=True)


def ask(statement, parameters=None, **options):
    with connect(**options) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetch_arrow_table()


def http(statement, token=None):
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(sql_url, statement.encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def refused(kind, words, action, *given, **named):
    try:
        action(*given, **named)
    except kind as error:
        assert words in str(error), (words, error)
        return error
    raise AssertionError(f"not refused: {words} {given}")


def plain(value):
    """A value of Arrow as JSON has it over HTTP."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def same(name, value, expected):
    if isinstance(value, datetime.datetime):
        assert value.utcoffset() == datetime.timedelta(0), name
        expected = datetime.datetime.fromisoformat(expected.replace("Z", "+00:00"))
    assert plain(value) == expected, (name, value, expected)


def all_columns():
    statement = "SELECT * FROM requests ORDER BY time, sequence"
    expected, table = http(statement), ask(statement)
    assert table.num_rows == len(expected) > 0
    assert not any("view" in str(field.type) or "dictionary" in str(field.type) for field in table.schema), table.schema
    for row, wanted in zip(table.to_pylist(maps_as_pydicts="strict"), expected):
        assert list(row) == list(wanted)
        for name, value in row.items():
            same(name, value, wanted[name])


def all_types():
    row = ask(
        "SELECT 1::smallint AS a, 2::int AS b, 3::bigint AS c, 1.5::real AS d, 2.25::double precision AS e, "
        "12.50::decimal(10, 2) AS f, true AS g, 'text' AS h, NULL AS i, TIMESTAMP '2026-11-30 01:02:03.5' AS j, "
        "DATE '2026-11-30' AS k, ARRAY[1, 2, NULL] AS l, ARRAY['a b', NULL, ''] AS m, "
        "18446744073709551615::bigint unsigned AS n, "
        "arrow_cast('2026-11-30T01:02:03Z', 'Timestamp(Microsecond, Some(\"UTC\"))') AS o, 'x'::bytea AS p, "
        "-0.001::decimal(10, 3) AS q, TIME '01:02:03.5' AS r, "
        "named_struct('x', 1, 'y', 'z') AS t, INTERVAL '2 days 3 hours' AS u"
    ).to_pylist()[0]
    expected = [
        1, 2, 3, 1.5, 2.25, decimal.Decimal("12.50"), True, "text", None,
        datetime.datetime(2026, 11, 30, 1, 2, 3, 500000), datetime.date(2026, 11, 30), [1, 2, None],
        ["a b", None, ""], 2**64 - 1, datetime.datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC), b"x",
        decimal.Decimal("-0.001"), datetime.time(1, 2, 3, 500000), {"x": 1, "y": "z"},
    ]
    values = list(row.values())
    assert values[: len(expected)] == expected, values
    interval = values[len(expected)]
    assert (interval.months, interval.days, interval.nanoseconds) == (0, 2, 3 * 3600 * 10**9), interval


def empty_and_large():
    empty = ask("SELECT path, status FROM requests WHERE false")
    assert empty.num_rows == 0 and empty.column_names == ["path", "status"]
    large = ask("SELECT value, concat('text ', value) AS said FROM generate_series(1, 300000) ORDER BY value")
    assert large.num_rows == 300_000
    assert large.column("value").to_pylist() == list(range(1, 300_001))
    assert large.column("said")[299_999].as_py() == "text 300000"
    assert ask("EXPLAIN SELECT 1").column_names == ["plan_type", "plan"]


def parameters():
    count = "SELECT count(*) AS n FROM requests WHERE status = $1 AND path LIKE $2 AND time > $3"
    since = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    for status, wanted in ((404, 3), (201, 2)):
        assert ask(count, (status, "/%", since)).to_pylist() == [{"n": wanted}]
    # A text is a number where one is wanted.
    assert ask(count, ("404", "/%", "2020-01-01T00:00:00Z")).to_pylist() == [{"n": 3}]
    values = (2**40, 1.5, True, "it's", None, b"b")
    row = ask("SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d, $5 AS e, $6 AS f", values).to_pylist()[0]
    assert tuple(row.values()) == values, row
    with connect() as connection, connection.cursor() as cursor:
        statement = "SELECT $1 + 1 AS n"
        for number in (1, 41):
            cursor.execute(statement, (number,))
            assert cursor.fetchall() == [(number + 1,)]
        refused(Exception, "parameters wanted", lambda: (cursor.execute(statement, (1, 2)), cursor.fetchall()))
        schema = cursor.adbc_prepare("SELECT * FROM requests WHERE status = $1 AND consumer = $2")
        assert [str(field.type) for field in schema] == ["uint16", "string"], schema
        refused(Exception, "nothing can be written here", cursor.executemany, "SELECT $1", [(1,), (2,)])


def catalogue():
    with connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Tollhouse" and info["vendor_version"], info
        assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
        columns = connection.adbc_get_table_schema("requests", db_schema_filter="public")
        assert columns.names == list(http("SELECT * FROM requests LIMIT 1")[0])
        assert str(columns.field("trace_id").type) == "string" and str(columns.field("status").type) == "uint16"
        found = connection.adbc_get_objects(depth="all", catalog_filter="tollhouse").read_all().to_pylist()
        schemas = {schema["db_schema_name"]: schema["db_schema_tables"] for schema in found[0]["catalog_db_schemas"]}
        assert {"public", "system", "config", "information_schema"} <= set(schemas), schemas.keys()
        tables = {table["table_name"]: table for table in schemas["public"]}
        assert {"requests", "services", "traffic_1m"} <= set(tables), tables.keys()
        assert [column["column_name"] for column in tables["requests"]["table_columns"]] == columns.names
        some = connection.adbc_get_objects(depth="tables", table_name_filter="quer%").read_all().to_pylist()
        names = [table["table_name"] for schema in some[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
        assert names == ["queries"], names


def refusals():
    for statement, words in (
        ("DROP TABLE requests", "refused"),
        ("INSERT INTO requests SELECT * FROM requests", "refused"),
        ("COPY requests TO '/tmp/x.csv'", "refused"),
        ("SELECT 1; SELECT 2", "refused"),
        ("SELECT nowhere FROM requests", "column `nowhere` does not exist (plan, line 1, column 8)"),
        ("SELEC 1", "syntax"),
        ("SELECT * FROM '/etc/passwd'", "plan"),
        ("SELECT 1 -- " + "x" * 300_000, "longer than"),
    ):
        refused(Exception, words, ask, statement)
    with connect() as connection, connection.cursor() as cursor:
        refused(Exception, "nothing can be written here", cursor.adbc_ingest, "requests", pyarrow.table({"a": [1]}))
        cursor.execute("SELECT 1 AS n")
        assert cursor.fetchall() == [(1,)], "the connection goes on"


def attacks():
    """Statements of a file, each of which must be refused."""
    for statement in json.load(open(more[0])):
        refused(Exception, "", ask, statement)


LONG = (
    "SELECT count(*) FROM generate_series(1, 20000) a, generate_series(1, 1000000000) b WHERE (a.value * b.value) % 7 = 3"
)


def until(what, condition):
    for _ in range(600):
        found = http(f"SELECT count(*) AS n FROM system.queries WHERE protocol = 'flight_sql' AND {condition}")
        if found[0]["n"] > 0:
            return
        time.sleep(0.1)
    raise AssertionError(what)


def message(tag, value):
    """A field of protobuf whose value is bytes."""
    length, head = len(value), bytes([tag << 3 | 2])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + value


def any_of(name, body):
    return message(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + message(2, body)


def by_hand():
    """The calls of Flight SQL as any library makes them."""
    client = flight.connect(uri)
    command = flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", message(1, LONG.encode())))
    return client, client.get_flight_info(command)


def cancels():
    # By the driver, which lets go of the call.
    with connect() as connection, connection.cursor() as cursor:
        failed = []

        def run():
            try:
                cursor.execute(LONG)
                cursor.fetchall()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until("it runs", "status = 'running'")
        cursor.adbc_cancel()
        thread.join(60)
        assert failed and not thread.is_alive()
        until("it is cancelled", "status = 'cancelled'")
        cursor.execute("SELECT 1 AS n")
        assert cursor.fetchall() == [(1,)]
    # By both actions of the protocol.
    for old in (False, True):
        client, info = by_hand()
        failed = []

        def fetch():
            try:
                client.do_get(info.endpoints[0].ticket).read_all()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        until("it runs", "status = 'running'")
        body = message(1, info.serialize())
        name, body = ("CancelQuery", any_of("ActionCancelQueryRequest", body)) if old else ("CancelFlightInfo", body)
        answer = list(client.do_action(flight.Action(name, body)))
        assert len(answer) == 1 and answer[0].body.to_pybytes().endswith(b"\x08\x01"), answer
        thread.join(60)
        assert failed and "cancelled" in str(failed[0]), failed
        refused(Exception, "no such query", lambda: list(client.do_action(flight.Action(name, body))))


def calls():
    """Bytes that no driver sends, by gRPC itself."""
    address = uri.split("://")[1]
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", 64 << 20)]) as channel:
        same_bytes = {"request_serializer": bytes, "response_deserializer": bytes}
        service = "/arrow.flight.protocol.FlightService/"
        unary = lambda method, body: channel.unary_unary(service + method, **same_bytes)(body, timeout=60)
        stream = lambda method, body: list(channel.unary_stream(service + method, **same_bytes)(body, timeout=60))
        put = lambda *bodies: list(channel.stream_stream(service + "DoPut", **same_bytes)(iter(bodies), timeout=60))
        huge = message(1, b"x" * (5 << 20))
        for action in (unary, stream):
            method = "GetFlightInfo" if action is unary else "DoGet"
            refused(grpc.RpcError, "OUT_OF_RANGE", action, method, huge)
        for number in range(200):
            for body in (os.urandom(number), message(1, os.urandom(number))):
                refused(grpc.RpcError, "", stream, "DoGet", body)
                refused(grpc.RpcError, "", unary, "GetFlightInfo", message(2, body))
                refused(grpc.RpcError, "", stream, "DoAction", message(1, b"CreatePreparedStatement") + message(2, body))
                refused(grpc.RpcError, "", put, body)
            ticket = message(1, any_of("TicketStatementQuery", message(1, os.urandom(number))))
            refused(grpc.RpcError, "", stream, "DoGet", ticket)
        # A ticket of one's own is a question like any other.
        def ticket(statement, *params):
            asked = message(2, statement.encode()) + b"".join(message(3, param) for param in params)
            return message(1, any_of("TicketStatementQuery", message(1, asked)))

        assert len(stream("DoGet", ticket("SELECT 1 AS n"))) == 2
        refused(grpc.RpcError, "PERMISSION_DENIED", stream, "DoGet", ticket("DROP TABLE requests"))
        refused(grpc.RpcError, "longer than", stream, "DoGet", ticket("SELECT 1 -- " + "x" * 300_000))
        # Parameters are Arrow data of one row, none of which is believed.
        squeezed = [data(*part) for part in parts_of("zstd")]
        refused(grpc.RpcError, "compressed", stream, "DoGet", ticket("SELECT $1", *squeezed))
        messages = parts_of(None)
        good = [data(*part) for part in messages]
        assert any(b"x" * 1000 in piece for piece in stream("DoGet", ticket("SELECT $1 AS a", *good)))
        for at in range(0, len(messages[1][0]), 3):
            head = bytearray(messages[1][0])
            head[at] ^= 0x5A
            damaged = [good[0], data(bytes(head), messages[1][1])]
            try:
                stream("DoGet", ticket("SELECT $1 AS a", *damaged))
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert len(stream("DoGet", ticket("SELECT 1 AS n"))) == 2, "it goes on"


def data(head, body):
    """A `FlightData`; the number of its `data_body` needs two bytes."""
    return message(2, head) + b"\xc2\x3e" + message(1, body)[1:]


def parts_of(compression):
    """Heads and bodies of the messages of one row."""
    schema, sink = pyarrow.schema([("a", pyarrow.string())]), pyarrow.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    with pyarrow.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write(pyarrow.record_batch([["x" * 1000]], schema=schema))
    messages = pyarrow.ipc.MessageReader.open_stream(sink.getvalue())
    return [(one.metadata.to_pybytes(), one.body.to_pybytes() if one.body else b"") for one in messages]


def tokens():
    everything, alice, rows, own = more
    count = "SELECT count(*) AS n FROM requests"
    number = lambda **options: ask(count, **options).to_pylist()[0]["n"]
    assert number(token=everything) == int(rows)
    assert number(token=alice) == int(own)
    assert number(username="grafana", password=everything) == int(rows)
    assert number(username="alice", password=alice) == int(own)
    denied = [
        {}, {"token": "wrong-secret-0123456789"}, {"token": ""}, {"username": "alice", "password": everything},
        {"username": "grafana", "password": "wrong-secret-0123456789"}, {"username": "nobody", "password": alice},
    ]
    for options in denied:
        refused(Exception, "token", number, **options)
    refused(Exception, "may not read system.files", ask, "SELECT * FROM system.files", token=alice)
    refused(Exception, "EXPLAIN", ask, "EXPLAIN SELECT 1", token=alice)
    assert ask("SELECT DISTINCT consumer FROM requests", token=alice).to_pylist() == [{"consumer": "alice"}]
    with connect(token=alice) as connection:
        found = connection.adbc_get_objects(depth="tables").read_all().to_pylist()[0]["catalog_db_schemas"]
        system = [table["table_name"] for schema in found if schema["db_schema_name"] == "system" for table in schema["db_schema_tables"]]
        assert system == ["queries"], system
    # A ticket is no key: who fetches its answer is asked who it is, and has its own rows.
    header = lambda token: flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
    client = flight.connect(uri)
    command = flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", message(1, count.encode())))
    ticket = client.get_flight_info(command, header(everything)).endpoints[0].ticket
    refused(flight.FlightUnauthenticatedError, "token", lambda: client.do_get(ticket).read_all())
    assert client.do_get(ticket, header(alice)).read_all().to_pylist() == [{"n": int(own)}]
    # The handshake gives what the calls after it say.
    name, value = client.authenticate_basic_token("alice", alice)
    assert (name.lower(), value) == (b"authorization", f"Bearer {alice}".encode())
    # Another's query is not to be cancelled.
    command = flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", message(1, LONG.encode())))
    info = client.get_flight_info(command, header(everything))
    thread = threading.Thread(target=lambda: refused(Exception, "cancelled", lambda: client.do_get(info.endpoints[0].ticket, header(everything)).read_all()))
    thread.start()
    for _ in range(600):
        running = http("SELECT count(*) AS n FROM system.queries WHERE status = 'running' AND protocol = 'flight_sql'", everything)
        if running[0]["n"] > 0:
            break
        time.sleep(0.1)
    cancel = flight.Action("CancelFlightInfo", message(1, info.serialize()))
    refused(Exception, "no such query", lambda: list(client.do_action(cancel, header(alice))))
    assert list(client.do_action(cancel, header(everything)))
    thread.join(60)
    assert not thread.is_alive()
    users = http("SELECT DISTINCT \"user\" FROM system.queries WHERE protocol = 'flight_sql' ORDER BY 1", everything)
    assert users == [{"user": "alice"}, {"user": "grafana"}], users


def tls():
    certificate, token = more
    with open(certificate) as file:
        pem = file.read()
    assert ask("SELECT 1 AS n", token=token, **{DatabaseOptions.TLS_ROOT_CERTS.value: pem}).to_pylist() == [{"n": 1}]
    refused(Exception, "", ask, "SELECT 1", token=token)


def one():
    print("rows", ask("SELECT 1 AS n").to_pylist())


def limits():
    refused(Exception, "took longer", ask, LONG)
    refused(Exception, "more than 10000 rows", ask, "SELECT value FROM generate_series(1, 20000)")
    held = "SELECT cardinality(array_agg(value || ' is a text of some length that is held')) FROM generate_series(1, 5000000)"
    refused(Exception, "out_of_memory", ask, held)
    assert ask("SELECT 1 AS n").to_pylist() == [{"n": 1}]


def rows():
    for check in (all_columns, all_types, empty_and_large, parameters, catalogue):
        check()


globals()[part]()
print("done")
