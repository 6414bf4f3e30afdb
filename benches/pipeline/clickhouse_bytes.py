#!/usr/bin/env python3
"""Bytes per row that ClickHouse takes for the rows of some Parquet files, beside those of the files.

    MEASURE_FOLDER=/tmp/measured cargo test --release --workspace measure -- --ignored --nocapture
    python3 benches/pipeline/clickhouse_bytes.py /tmp/measured measured

The last file of the measurement, `measured-*`, is merged with the defaults. The table has the same columns in the same order of rows;
names and addresses are LowCardinality, as ClickHouse's own documentation advises for columns of few values. Needs chdb.
"""
import glob
import json
import os
import sys
import tempfile

from chdb import session

IDS = ("request_id", "trace_id", "span_id", "parent_span_id", "upstream_span_id", "attempts.span_id")


def main() -> None:
    folder, which = sys.argv[1], sys.argv[2]
    files = sorted(glob.glob(f"{folder}/requests/**/*{which}*.parquet", recursive=True))
    assert files, f"no file of {which}"
    with tempfile.TemporaryDirectory() as place:
        chdb = session.Session(place)

        def rows(sql: str) -> list[dict]:
            return json.loads(str(chdb.query(sql, "JSON")))["data"]

        source = f"file('{folder}/requests/**/*{which}*.parquet', Parquet)"
        columns = [(row["name"], row["type"]) for row in rows(f"DESCRIBE {source}")]
        total = int(rows(f"SELECT count() AS n FROM {source}")[0]["n"])
        parquet = sum(os.path.getsize(file) for file in files)
        print(f"Parquet: {parquet / total:.2f} bytes per row ({total} rows)")

        def kind(name: str, of: str) -> str:
            if of == "Nullable(String)":
                return "LowCardinality(Nullable(String))"
            return "LowCardinality(String)" if of == "String" and name not in IDS else of

        for codec in ("LZ4", "ZSTD(3)"):
            shape = ", ".join(f"`{name}` {kind(name, of)} CODEC({codec})" for name, of in columns)
            chdb.query("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic")
            chdb.query("DROP TABLE IF EXISTS d.requests SYNC")
            order = "(toStartOfMinute(time), ifNull(service, ''), ifNull(consumer, ''), node, core, time)"
            chdb.query(
                f"CREATE TABLE d.requests ({shape}) ENGINE = MergeTree ORDER BY {order} "
                "SETTINGS allow_nullable_key = 1"
            )
            chdb.query(f"INSERT INTO d.requests SELECT * FROM {source}")
            chdb.query("OPTIMIZE TABLE d.requests FINAL")
            assert int(rows("SELECT count() AS n FROM d.requests")[0]["n"]) == total
            parts = rows("SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE table = 'requests' AND active")
            sizes = rows(
                "SELECT column, sum(column_data_compressed_bytes) AS n FROM system.parts_columns "
                "WHERE table = 'requests' AND active GROUP BY column ORDER BY n DESC"
            )
            ids = sum(int(row["n"]) for row in sizes if row["column"] in IDS)
            # A struct in a list is one column there: its ids are eight bytes that nothing compresses.
            nested = any(row["column"] == "attempts" for row in sizes)
            ids += 8 * total if nested else 0
            on_disk = int(parts[0]["n"])
            print(f"ClickHouse, {codec}: {on_disk / total:.2f} bytes per row, {(on_disk - ids) / total:.2f} without ids")
            if codec != "LZ4":
                for row in sizes:
                    if int(row["n"]) / total >= 0.1:
                        print(f"| `{row['column']}` | {int(row['n']) / total:.2f} |")


if __name__ == "__main__":
    main()
