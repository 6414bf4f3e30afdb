"""Panels about the collector and its books: the ledger, the spool, files, spans, metrics, the process."""

from .grafana import lines, override, prom, prom_table, sql, stat, steps, table
from .scope import total

HERE = '{instance=~"$instance"}'
NONE_IS_GOOD = steps((None, "green"), (1, "red"))


def gauge(title, description, expr, legend, unit, **more):
    return lines(title, description, [prom(expr, legend)], unit, min=0, **more)


def per_second(title, description, name, by, legend, unit, **more):
    return gauge(title, description, total(name, HERE, by), legend, unit, **more)


def dropped_now():
    return stat(
        "Events dropped",
        "Events that no sink got, since the start: the spool was full, the disk failed, a record was damaged.",
        prom('sum(tollhouse_events_total{instance=~"$instance",stage="dropped"}) or vector(0)', "dropped"),
        "short",
        thresholds=NONE_IS_GOOD,
    )


def produced():
    stages = 'tollhouse_events_total{instance=~"$instance",stage=~"produced|stored"}'
    return gauge(
        "Events",
        "Events per second by stage and sink: what the gateway produced, and what was stored.",
        "sum by (stage, sink) (rate(%s[$__rate_interval]))" % stages,
        "{{stage}} {{sink}}",
        "ops",
    )


def dropped():
    expr = 'sum by (sink, reason) (rate(tollhouse_events_total{instance=~"$instance",stage="dropped"}[$__rate_interval])) or vector(0)'
    return gauge(
        "Drops by reason",
        "Events per second that were dropped; requests never are. 0 without a name when there was none.",
        expr,
        "{{sink}} {{reason}}",
        "ops",
        thresholds=steps((None, "green"), (0.001, "red")),
    )


def in_flight():
    return gauge(
        "Events on their way",
        "Events that have not reached the sink yet.",
        "sum by (sink) (tollhouse_events_in_flight%s)" % HERE,
        "{{sink}}",
        "short",
    )


def lag():
    expr = (
        'sum by (instance) (tollhouse_events_in_flight{instance=~"$instance",sink!="prometheus"}) / '
        'sum by (instance) (rate(tollhouse_events_total{instance=~"$instance",stage="produced",sink!="prometheus"}[$__rate_interval]))'
    )
    return gauge(
        "Behind",
        "How long the events on their way took to produce: so far the table is behind.",
        expr,
        "{{instance}}",
        "s",
        thresholds=steps((None, "green"), (30, "red")),
    )


def spool():
    return gauge(
        "Spool",
        "Share of `spool.bytes_max` that segments have. At 1 events are dropped.",
        "tollhouse_spool_bytes%s / tollhouse_spool_limit_bytes%s" % (HERE, HERE),
        "{{instance}}",
        "percentunit",
        max=1,
        thresholds=steps((None, "green"), (0.5, "yellow"), (0.85, "red")),
    )


def disk():
    return gauge(
        "Free disk",
        "Free for Tollhouse, of the disk of the data folder.",
        "tollhouse_storage_free_bytes%s / tollhouse_storage_size_bytes%s" % (HERE, HERE),
        "{{instance}}",
        "percentunit",
        max=1,
    )


def ledger():
    return table(
        "The books",
        "Produced and recovered are stored, dropped or in flight, for each node and sink.",
        sql(
            "SELECT node, sink, produced, recovered, stored, dropped, in_flight,\n"
            "       produced + recovered - stored - dropped - in_flight AS difference, reasons\nFROM system.ledger\nORDER BY 1, 2"
        ),
        "short",
        overrides=[
            override(
                "difference",
                thresholds=steps((None, "red"), (0, "green"), (1, "red")),
                custom_cellOptions={"type": "color-text"},
            )
        ],
    )


def files():
    return table(
        "Files",
        "What the tables are made of at this moment, by kind, place and whether they are whole.",
        sql(
            "SELECT kind, place, status, count(*) AS files, sum(rows) AS rows, sum(bytes) AS bytes, min(time_min) AS since\n"
            "FROM system.files\nGROUP BY 1, 2, 3\nORDER BY bytes DESC"
        ),
        "short",
        overrides=[override("bytes", unit="bytes")],
    )


def queries():
    return table(
        "Queries",
        "The last statements, the running ones too; literals are hidden.",
        sql(
            'SELECT id, started, "user", protocol, status, duration_us / 1000.0 AS ms, rows, bytes, client, sql\n'
            "FROM system.queries\nORDER BY id DESC\nLIMIT 30"
        ),
        "short",
        overrides=[override("ms", unit="ms"), override("bytes", unit="bytes")],
    )


def damaged():
    return stat(
        "Damaged files",
        "Files that are not what was written, until somebody takes note: `tollhouse storage check`.",
        prom("sum(tollhouse_storage_damaged_files%s)" % HERE, "files"),
        "short",
        thresholds=NONE_IS_GOOD,
    )


def set_aside():
    return stat(
        "Rows set aside",
        "Rows that the table lacks since damaged files were set aside.",
        prom("sum(tollhouse_storage_set_aside_rows%s)" % HERE, "rows"),
        "short",
        thresholds=NONE_IS_GOOD,
    )


def reloaded():
    return stat(
        "Configuration",
        "Whether the last attempt to reload it succeeded: 1 yes, 0 no.",
        prom("min(tollhouse_config_last_reload_successful%s)" % HERE, "successful"),
        "short",
        thresholds=steps((None, "red"), (1, "green")),
    )


def configurations():
    return table(
        "Configurations",
        "What the gateway was configured with, and when; the last one is in force.",
        sql(
            "SELECT version, since, until, source, services, routes\nFROM config.versions\nORDER BY since DESC\nLIMIT 20"
        ),
        "short",
    )


def changes():
    return table(
        "Changes of the configuration",
        "What each new configuration added, changed or removed.",
        sql(
            "SELECT at, version, kind, name, change, fields\nFROM config.changes\nORDER BY at DESC, kind, name\nLIMIT 50"
        ),
        "short",
    )


def uptime():
    return stat(
        "Up for",
        "Since the start of the youngest process.",
        prom("min(time() - process_start_time_seconds%s)" % HERE, "up"),
        "s",
    )


def merges():
    return per_second(
        "Merges",
        "Parquet files per second that were merged into larger ones, and merges that came to nothing.",
        "tollhouse_compaction_read_files_total",
        "instance",
        "{{instance}} files",
        "ops",
    )


def merged_bytes():
    names = [
        ("tollhouse_compaction_read_bytes_total", "read"),
        ("tollhouse_compaction_written_bytes_total", "written"),
    ]
    return lines(
        "Bytes of merges",
        "Bytes per second that merges read and wrote.",
        [prom(total(name, HERE), what) for name, what in names],
        "Bps",
        min=0,
    )


def merge_failures():
    return per_second(
        "Merges that failed",
        "Merges per second that came to nothing: a damaged file, a full disk.",
        "tollhouse_compaction_failures_total",
        "instance",
        "{{instance}}",
        "ops",
        thresholds=steps((None, "green"), (0.0001, "red")),
    )


def spans():
    return per_second(
        "Spans",
        "Spans per second by stage: accepted are delivered, dropped or queued.",
        "tollhouse_spans_total",
        "stage, reason",
        "{{stage}} {{reason}}",
        "ops",
    )


def spans_queued():
    return gauge(
        "Spans waiting",
        "Spans that wait to be delivered.",
        "sum by (instance) (tollhouse_spans_queued%s)" % HERE,
        "{{instance}}",
        "short",
    )


def series():
    return gauge(
        "Label sets",
        "Label sets of each family, against `collector.metrics.series_max`.",
        "max by (family) (tollhouse_metrics_series%s)" % HERE,
        "{{family}}",
        "short",
    )


def overflows():
    return per_second(
        "Label sets beyond the bound",
        "How often per second a label set beyond the bound went to `__overflow__`.",
        "tollhouse_metrics_overflows_total",
        "family",
        "{{family}}",
        "ops",
        thresholds=steps((None, "green"), (0.001, "red")),
    )


def scrape():
    return gauge(
        "Writing /metrics",
        "How long the page before the last one took.",
        "max by (instance) (tollhouse_metrics_scrape_duration_seconds%s)" % HERE,
        "{{instance}}",
        "s",
    )


def cpu():
    return per_second(
        "Processor",
        "Cores that the process used.",
        "process_cpu_seconds_total",
        "instance",
        "{{instance}}",
        "short",
    )


def memory():
    return gauge(
        "Memory",
        "Resident memory, mapped files included.",
        "sum by (instance) (process_resident_memory_bytes%s)" % HERE,
        "{{instance}}",
        "bytes",
    )


def descriptors():
    return gauge(
        "File descriptors",
        "Share of the limit that is open.",
        "process_open_fds%s / process_max_fds%s" % (HERE, HERE),
        "{{instance}}",
        "percentunit",
        max=1,
        thresholds=steps((None, "green"), (0.8, "red")),
    )


def bucket_backlog():
    return gauge(
        "Waiting for the bucket",
        "Bytes of sealed files that are not in the bucket yet.",
        "sum by (instance) (tollhouse_bucket_backlog_bytes%s)" % HERE,
        "{{instance}}",
        "bytes",
    )


def bucket_age():
    return gauge(
        "Bucket last complete",
        "How long ago all that was due was in the bucket.",
        "time() - max by (instance) (tollhouse_bucket_last_success_timestamp_seconds%s > 0)" % HERE,
        "{{instance}}",
        "s",
        thresholds=steps((None, "green"), (900, "red")),
    )


def bucket_trouble():
    return lines(
        "Uploads",
        "Files per second that were uploaded, and rounds that failed.",
        [
            prom(total("tollhouse_bucket_uploaded_files_total", HERE, "instance"), "{{instance}} files"),
            prom(total("tollhouse_bucket_failures_total", HERE, "instance"), "{{instance}} failed"),
        ],
        "ops",
        min=0,
    )


def forwarded():
    return lines(
        "Rows between hosts",
        "Rows per second that were sent to another host, and that came from others.",
        [
            prom(total("tollhouse_forward_rows_total", HERE, "instance"), "{{instance}} sent"),
            prom(total("tollhouse_receive_rows_total", HERE, "instance"), "{{instance}} received"),
        ],
        "ops",
        min=0,
    )


def connected():
    return gauge(
        "Receivers",
        "1 while a receiver takes the rows of this host, 0 while none does.",
        "min by (instance) (tollhouse_forward_connected%s)" % HERE,
        "{{instance}}",
        "short",
        max=1,
    )


def firing():
    return table(
        "Alerts",
        "Alerts of `dashboards/prometheus` that fire or are about to.",
        prom_table('ALERTS{alertname=~"Tollhouse.+"}'),
        "short",
        overrides=[
            override("Value", custom_hidden=True),
            override("Time", custom_hidden=True),
            override("__name__", custom_hidden=True),
        ],
    )
