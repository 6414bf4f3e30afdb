"""psycopg 3 against the PostgreSQL door: rows of all types as over HTTP, by text and binary, with parameters of all kinds."""

import contextlib
import datetime
import decimal
import json
import sys
import threading
import time
import urllib.request

import psycopg

host, port, sql_url = sys.argv[1:4]


def connect(**more):
    return psycopg.connect(host=host, port=port, user="anybody", dbname="tollhouse", **more)


def http(statement):
    request = urllib.request.Request(sql_url, statement.encode(), {"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def plain(value):
    """A value of psycopg as JSON has it over HTTP."""
    if isinstance(value, datetime.datetime):
        assert value.utcoffset() == datetime.timedelta(0)
        return value.astimezone(datetime.timezone.utc)
    if isinstance(value, decimal.Decimal):
        return float(value) if value % 1 else int(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


@contextlib.contextmanager
def refuses(kind, about):
    try:
        yield
    except kind:
        return
    raise AssertionError(about)


def same(name, value, expected):
    if isinstance(value, datetime.datetime):
        expected = datetime.datetime.fromisoformat(expected.replace("Z", "+00:00"))
    assert plain(value) == expected, (name, value, expected)


def all_columns():
    statement = "SELECT * FROM requests ORDER BY time, sequence"
    expected = http(statement)
    for binary in (False, True):
        with connect() as connection, connection.cursor(binary=binary) as cursor:
            rows = cursor.execute(statement).fetchall()
            names = [column.name for column in cursor.description]
            assert len(rows) == len(expected) > 0
            for row, wanted in zip(rows, expected):
                assert names == list(wanted)
                for name, value in zip(names, row):
                    same(name, value, wanted[name])


def all_types():
    statement = (
        "SELECT 1::smallint AS a, 2::int AS b, 3::bigint AS c, 1.5::real AS d, 2.25::double precision AS e, "
        "12.50::decimal(10, 2) AS f, true AS g, 'text' AS h, NULL AS i, TIMESTAMP '2026-11-30 01:02:03.5' AS j, "
        "DATE '2026-11-30' AS k, ARRAY[1, 2, NULL] AS l, ARRAY['a b', NULL, ''] AS m, "
        "18446744073709551615::bigint unsigned AS n, arrow_cast('2026-11-30T01:02:03Z', 'Timestamp(Microsecond, Some(\"UTC\"))') AS o, "
        "INTERVAL '2 days 3 hours' AS p, 'x'::bytea AS q, 'd'::varchar(3) AS r, "
        "-0.001::decimal(10, 3) AS s, 'NaN'::double precision AS t, TIME '01:02:03.5' AS u"
    )
    for binary in (False, True):
        with connect() as connection, connection.cursor(binary=binary) as cursor:
            row = cursor.execute(statement).fetchone()
            utc = datetime.timezone.utc
            expected = (
                1, 2, 3, 1.5, 2.25, decimal.Decimal("12.50"), True, "text", None,
                datetime.datetime(2026, 11, 30, 1, 2, 3, 500000), datetime.date(2026, 11, 30), [1, 2, None],
                ["a b", None, ""], 2**64 - 1, datetime.datetime(2026, 11, 30, 1, 2, 3, tzinfo=utc),
                datetime.timedelta(days=2, hours=3), b"x", "d", decimal.Decimal("-0.001"),
            )
            assert row[: len(expected)] == expected, (binary, row)
            assert row[19] != row[19] and row[20] == datetime.time(1, 2, 3, 500000), row


def parameters():
    with connect() as connection:
        ask = lambda sql, *params, **more: connection.execute(sql, params, **more).fetchall()
        for binary in (False, True):
            kind = "%b" if binary else "%t"
            one = lambda sql, *params: ask(sql.replace("?", kind), *params)
            assert one("SELECT count(*) FROM requests WHERE status = ?", 404) == [(3,)]
            assert one("SELECT count(*) FROM requests WHERE consumer = ?", "alice") == [(3,)]
            assert one("SELECT count(*) FROM requests WHERE time > ?", datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)) == [(8,)]
            assert one("SELECT count(*) FROM requests WHERE duration_us >= ?", 0) == [(8,)]
            assert one("SELECT count(*) FROM requests WHERE request_bytes = ?", decimal.Decimal(5000)) == [(1,)]
            assert one("SELECT count(*) FROM requests WHERE sampled = ?", True)[0][0] in (0, 8)
            assert one("SELECT ?::int + 1", 41) == [(42,)]
            assert one("SELECT value FROM generate_series(1, 10) ORDER BY 1 LIMIT ?", 2) == [(1,), (2,)]
            assert one("SELECT ?::double precision", 1.5) == [(1.5,)]
            assert one("SELECT coalesce(?, 'none')", None) == [("none",)]
            assert one("SELECT ?::date", datetime.date(2026, 2, 3)) == [(datetime.date(2026, 2, 3),)]
            assert one("SELECT ?", "it's \\ \"é\"") == [("it's \\ \"é\"",)]
            assert one("SELECT count(*) FROM requests WHERE status = ANY(?)", [404, 201]) == [(5,)]
            assert one("SELECT count(*) FROM requests WHERE consumer = ANY(?)", ["alice", "bob", None]) == [(6,)]
        # Text where a number or a time is wanted, as clients without types send it.
        assert ask("SELECT count(*) FROM requests WHERE status = %s", "404") == [(3,)]
        assert ask("SELECT count(*) FROM requests WHERE time BETWEEN %s AND %s", "2020-01-01", "2120-01-01T00:00:00Z") == [(8,)]
        trace = http("SELECT trace_id FROM requests WHERE status = 201 LIMIT 1")[0]["trace_id"]
        assert ask("SELECT trace_id, status FROM requests WHERE trace_id = %s", trace) == [(trace, 201)]
        for sql, params, state in (
            ("SELECT count(*) FROM requests WHERE status = %s", ("many",), "22P02"),
            ("SELECT %s::int", ("x",), "22P02"),
            ("SELECT nope FROM requests WHERE status = %s", (1,), "42703"),
        ):
            try:
                with connect() as other:
                    other.execute(sql, params)
            except psycopg.Error as error:
                assert error.sqlstate == state, (sql, error.sqlstate, error)
            else:
                raise AssertionError(sql)


def prepared():
    with connect(prepare_threshold=0) as connection:
        for status, count in ((404, 3), (201, 2), (404, 3), (999, 0)):
            for _ in range(2):
                rows = connection.execute("SELECT count(*) FROM requests WHERE status = %s", (status,), prepare=True)
                assert rows.fetchone() == (count,)
    with connect(autocommit=True) as connection:
        result = connection.pgconn.prepare(b"named", b"SELECT time, status, $2 AS x FROM requests WHERE status = $1 LIMIT 1")
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message
        described = connection.pgconn.describe_prepared(b"named")
        assert [described.param_type(i) for i in range(described.nparams)] == [23, 25], described.error_message
        assert [described.ftype(i) for i in range(described.nfields)] == [1184, 23, 25]


def transactions():
    with connect() as connection:
        with connection.transaction():
            assert connection.execute("SELECT 1").fetchone() == (1,)
            with connection.transaction():
                connection.execute("SELECT 2")
        with refuses(psycopg.errors.UndefinedColumn, "a column that there is not"):
            connection.execute("SELECT nope")
        with refuses(psycopg.errors.InFailedSqlTransaction, "after an error"):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 3").fetchone() == (3,)
        connection.commit()
        connection.read_only = True
        assert connection.execute("SELECT 4").fetchone() == (4,)
    for refused in ("CREATE TABLE x (a int)", "INSERT INTO requests VALUES (1)", "LISTEN x", "DELETE FROM requests"):
        with connect() as connection:
            with refuses(psycopg.errors.InsufficientPrivilege, refused):
                connection.execute(refused)
    with connect() as connection:
        with refuses(psycopg.errors.InsufficientPrivilege, "COPY"):
            with connection.cursor().copy("COPY requests TO STDOUT") as copy:
                list(copy)


def large():
    with connect() as connection:
        rows = connection.execute("SELECT value, repeat_me.x FROM generate_series(1, 200000), (SELECT 'some text' AS x) repeat_me").fetchall()
        assert len(rows) == 200000 and sum(row[0] for row in rows) == 200000 * 200001 // 2
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(100)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(100))


def cursors():
    statement = "SELECT value AS n FROM generate_series(1, 1000) WHERE value <= %s ORDER BY 1"
    with connect() as connection:
        for binary in (False, True):
            with connection.cursor(name="one by one", binary=binary) as cursor:
                cursor.itersize = 7
                cursor.execute(statement, (1000,), binary=binary)
                assert [column.name for column in cursor.description] == ["n"]
                assert cursor.fetchone() == (1,) and cursor.fetchmany(2) == [(2,), (3,)]
                assert [row[0] for row in cursor] == list(range(4, 1001))
                assert cursor.fetchone() is None
        connection.rollback()
        # It outlives its transaction where that is asked for, and not otherwise.
        with connection.cursor(name="held", withhold=True) as held, connection.cursor(name="left") as left:
            held.execute(statement, (5,))
            left.execute(statement, (5,))
            assert held.fetchmany(2) == left.fetchmany(2) == [(1,), (2,)]
            connection.commit()
            assert held.fetchall() == [(3,), (4,), (5,)]
            with refuses(psycopg.errors.InvalidCursorName, "it is gone"):
                left.fetchall()
            connection.rollback()
        # A rollback ends no cursor of a transaction that was committed, and one fetch may be text, the next one binary.
        connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT value AS n FROM generate_series(1, 9) ORDER BY 1")
        connection.commit()
        connection.execute("SELECT 1")
        connection.rollback()
        for turn in range(1, 5):
            assert connection.execute("FETCH held", binary=turn % 2 == 0).fetchall() == [(turn,)], turn
        assert connection.execute("FETCH ALL FROM held", binary=True).fetchall() == [(n,) for n in range(5, 10)]
        with connection.cursor(name="held") as again:
            assert again.fetchall() == []
        connection.execute("CLOSE ALL")
        connection.commit()
        for sql, state in (
            ("DECLARE a SCROLL CURSOR FOR SELECT 1", "0A000"),
            ("DECLARE a CURSOR FOR SELECT nope FROM requests", "42703"),
            ("DECLARE a CURSOR FOR SELECT 1; DECLARE a CURSOR FOR SELECT 1", "42P03"),
            ("DECLARE a CURSOR FOR SELECT 1; FETCH BACKWARD 1 FROM a", "55000"),
            ("CLOSE a", "34000"),
        ):
            try:
                connection.execute(sql)
            except psycopg.Error as error:
                assert error.sqlstate == state, (sql, error.sqlstate, str(error))
            else:
                raise AssertionError(sql)
            connection.rollback()
        with connection.transaction():
            connection.execute("DECLARE a CURSOR FOR SELECT 1 AS n; CLOSE ALL; DECLARE a CURSOR FOR SELECT 2 AS n")
            assert connection.execute("FETCH a").fetchall() == [(2,)]
            assert connection.execute("FETCH ALL FROM a").fetchall() == []
    with connect(autocommit=True) as connection:
        fetched = connection.execute("DECLARE a CURSOR FOR SELECT 7 AS n; FETCH a")
        assert fetched.nextset() and fetched.fetchall() == [(7,)]
        # An answer that ends in an error is not one that ends.
        connection.execute("DECLARE a CURSOR WITH HOLD FOR SELECT 7 / (50000 - value) FROM generate_series(1, 100000)")
        for _ in range(2):
            with refuses(psycopg.errors.DivisionByZero, "it divides"):
                connection.execute("FETCH ALL FROM a")
        connection.execute("CLOSE a")
        with refuses(psycopg.errors.NoActiveSqlTransaction, "no transaction"):
            connection.execute("DECLARE a CURSOR FOR SELECT 1")


def cancel():
    long = (
        "SELECT count(*) FROM generate_series(1, 20000) a, generate_series(1, 1000000000) b "
        "WHERE (a.value * b.value) %% 7 = %s"
    )
    with connect(autocommit=True) as connection:
        def end():
            while http("SELECT count(*) AS n FROM system.queries WHERE status = 'running' AND protocol = 'postgresql'")[0]["n"] == 0:
                time.sleep(0.02)
            connection.cancel()

        thread = threading.Thread(target=end)
        thread.start()
        try:
            connection.execute(long, (3,))
        except psycopg.errors.QueryCanceled as error:
            assert "user request" in str(error)
        else:
            raise AssertionError("it ended")
        thread.join()
        connection.execute("SET statement_timeout = '300ms'")
        try:
            connection.execute(long, (3,))
        except psycopg.errors.QueryCanceled as error:
            assert "statement timeout" in str(error)
        else:
            raise AssertionError("it ended")
        assert connection.execute("SELECT 1").fetchone() == (1,)


for test in (all_columns, all_types, parameters, prepared, transactions, large, cursors, cancel):
    test()
    print(test.__name__)
