"""Answers statements, one JSON text per line, with DuckDB over the Parquet files named in the first line."""
import json
import sys
import time

import duckdb

first = json.loads(sys.stdin.readline())
connection = duckdb.connect()
connection.execute(f"SET threads = {first['threads']}")
connection.execute("SET TimeZone = 'UTC'")
connection.execute("SET parquet_metadata_cache = true")
connection.execute("SET enable_progress_bar = false")
files = ", ".join("'" + name.replace("'", "''") + "'" for name in first["files"])
connection.execute(f"CREATE VIEW requests AS SELECT * FROM read_parquet([{files}], hive_partitioning = false)")
print(json.dumps({"version": duckdb.__version__}), flush=True)

for line in sys.stdin:
    sql = json.loads(line)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        rows = connection.execute(sql).fetchall()
    except Exception as error:
        print(json.dumps({"error": str(error)}), flush=True)
        continue
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"rows": rows, "wall_s": wall, "cpu_s": cpu}), flush=True)
