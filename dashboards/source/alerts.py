"""The alerts. Each has a section of its name in docs/runbooks.md and a test in dashboards/prometheus/alerts_test.yaml."""

from .slo import AVAILABILITY, LATENCY, PAGE, SLOW, TICKET


def alert(name, severity, expr, wait, summary, description):
    return {
        "alert": "Tollhouse" + name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": "docs/runbooks.md#tollhouse" + name.lower(),
        },
    }


def page(name, expr, wait, summary, description):
    """Somebody is to look at once."""
    return alert(name, "critical", expr, wait, summary, description)


def ticket(name, expr, wait, summary, description):
    """Somebody is to look today."""
    return alert(name, "warning", expr, wait, summary, description)


def grew(name, selector, window):
    """A counter that grew; one whose series is new grew from nothing."""
    series = "%s{%s}" % (name, selector) if selector else name
    return "increase(%s[%s]) > 0\nor\n(%s > 0 unless %s offset %s)" % (series, window, series, series, window)


WHERE = "{{ $labels.instance }}"
SERVICE = "service {{ $labels.service }}"
TARGET = "{{ $labels.upstream }}{{ $labels.service }} at {{ $labels.address }}"


def gateway():
    return [
        page(
            "Down",
            'up{job="tollhouse"} == 0',
            "1m",
            "Tollhouse at %s does not answer" % WHERE,
            "Prometheus cannot scrape /metrics: the process is gone or does not answer. Where the parts are one process, no request is served.",
        ),
        page(
            "Absent",
            'absent(up{job="tollhouse"})',
            "5m",
            "Prometheus knows no Tollhouse",
            "No target has the job `tollhouse`: the scrape configuration or the service discovery has lost it.",
        ),
        page(
            "GatewaySilent",
            "max_over_time(tollhouse_connections_open[6h])\nunless on (job, instance) tollhouse_connections_open\nand on (job, instance) tollhouse_build_info",
            "2m",
            "The gateway beside %s says nothing" % WHERE,
            "The collector answers, but the gateway leaves no report in the data folder: it is down, hangs, or its disk refuses writes.",
        ),
        page(
            "GatewayErrors",
            "tollhouse:gateway_errors:ratio_rate5m > 0.05",
            "5m",
            "The gateway answers {{ $value | humanizePercentage }} of requests with an error of its own",
            "Answers with a status of 500 or above that the gateway made, since no service could: nobody to ask, no connection, no answer in time.",
        ),
        ticket(
            "TrafficGone",
            "sum by (job) (rate(tollhouse_http_requests_total[10m])) == 0 and sum by (job) (rate(tollhouse_http_requests_total[1h] offset 10m)) > 1",
            "5m",
            "No request for ten minutes",
            "There was more than one request per second in the hour before: something before the gateway has lost its way to it.",
        ),
        ticket(
            "Overloaded",
            "rate(tollhouse_requests_overloaded_total[5m]) > 0",
            "2m",
            "%s has as many requests under way as it may" % WHERE,
            "Requests are answered 503 because `gateway.limits.requests_max` are under way.",
        ),
        ticket(
            "ConnectionsRefused",
            'sum by (job, instance, reason) (rate(tollhouse_connections_ended_total{reason=~"connections_max|connections_per_client_max"}[5m])) > 0',
            "2m",
            "%s turns connections away: {{ $labels.reason }}" % WHERE,
            "Clients are answered 503 or 429 because a bound of `gateway.limits` is met.",
        ),
        ticket(
            "FileDescriptors",
            'process_open_fds{job="tollhouse"} / process_max_fds{job="tollhouse"} > 0.8',
            "5m",
            "%s has {{ $value | humanizePercentage }} of its file descriptors open" % WHERE,
            "When none is left no connection is accepted and no file is written.",
        ),
        ticket(
            "ReloadFailed",
            "tollhouse_config_last_reload_successful == 0",
            "1m",
            "The new configuration of %s is not in force" % WHERE,
            "The file is wrong, or a certificate or a key that it names cannot be read. The one before is still in force.",
        ),
    ]


FAST = (page, PAGE, "2m", "Fast")
SLOWLY = (ticket, TICKET, "15m", "Slow")


def burn(objective, kind, name, what):
    make, rates, wait, speed = kind
    return make(
        name + speed,
        objective.burns(rates),
        wait,
        "%s use up the budget of {{ $labels.service }}" % what,
        "{{ $value | humanizePercentage }} of requests of service {{ $labels.service }} were bad in the longer window: more than %s times what the objective allows, and still so in the shorter one."
        % " or ".join(rate for rate, _, _ in rates),
    )


def objectives():
    slow = "Requests above %s s" % SLOW
    return [
        burn(AVAILABILITY, FAST, "ErrorBudgetBurn", "Errors"),
        burn(AVAILABILITY, SLOWLY, "ErrorBudgetBurn", "Errors"),
        burn(LATENCY, FAST, "LatencyBudgetBurn", slow),
        burn(LATENCY, SLOWLY, "LatencyBudgetBurn", slow),
    ]


def upstreams():
    attempts = "sum by (service) (rate(tollhouse_upstream_attempts_total[5m]))"
    tried = "sum by (service) (rate(tollhouse_http_upstream_duration_seconds_count[5m]))"
    overflow = 'increase(tollhouse_upstream_circuit_overflows_total{resource%s"max_retries"}[5m]) > 0'
    return [
        ticket(
            "UpstreamTargetDown",
            "tollhouse_upstream_target_healthy == 0 unless tollhouse_upstream_target_ejected == 1",
            "1m",
            "%s is out" % TARGET,
            "Health checks have taken the address out, or its name has no address. Others take its share.",
        ),
        ticket(
            "UpstreamTargetEjected",
            "tollhouse_upstream_target_ejected == 1",
            "1m",
            "%s is ejected" % TARGET,
            "Outlier detection keeps the address out, since its answers were errors, or slower than those of the others.",
        ),
        page(
            "UpstreamDown",
            "max by (job, instance, service, upstream) (tollhouse_upstream_target_healthy) == 0",
            "1m",
            "Nobody serves {{ $labels.upstream }}{{ $labels.service }}",
            "Every address is out: requests are answered 503, or go to addresses that are known not to work.",
        ),
        ticket(
            "CircuitOpen",
            overflow % "!=",
            "1m",
            "{{ $labels.upstream }} is asked for more than {{ $labels.resource }}",
            "A circuit breaker refuses requests to the upstream: it is slower than usual, or the bound is too low.",
        ),
        ticket(
            "RetryBudgetExhausted",
            overflow % "=",
            "1m",
            "{{ $labels.upstream }} has no retries left",
            "More requests failed at a time than `max_retries` allows to try again: their failures are the answers.",
        ),
        ticket(
            "ManyRetries",
            "%s / %s - 1 > 0.2" % (attempts, tried),
            "10m",
            "{{ $value | humanizePercentage }} of requests to %s are tried again" % SERVICE,
            "Clients see good answers, but a part of the upstream fails, and retries multiply the load.",
        ),
    ]


def collector():
    lag = (
        'sum by (job, instance) (tollhouse_events_in_flight{sink!="prometheus"}) > 1000\nand\n'
        'sum by (job, instance) (tollhouse_events_in_flight{sink!="prometheus"})\n'
        '  / sum by (job, instance) (rate(tollhouse_events_total{stage="produced",sink!="prometheus"}[5m])) > 30'
    )
    return [
        page(
            "EventsDropped",
            grew("tollhouse_events_total", 'stage="dropped"', "5m"),
            "0s",
            "%s drops events: {{ $labels.reason }}" % WHERE,
            "Requests are served, but are missing in tables, metrics or spans of {{ $labels.sink }}. The books say how many.",
        ),
        page(
            "SpoolFilling",
            # A gateway of many cores has segments that wait for events: those alone are no reason.
            "tollhouse_spool_bytes / tollhouse_spool_limit_bytes > 0.5\nand on (job, instance)\n"
            'sum by (job, instance) (tollhouse_events_in_flight{sink!="prometheus"}) > 10000',
            "5m",
            "The spool of %s is {{ $value | humanizePercentage }} full" % WHERE,
            "Events wait for a collector that is away, too slow, or has no room. When the spool is full they are dropped; requests are not.",
        ),
        ticket(
            "CollectorBehind",
            lag,
            "5m",
            "The collector of %s is behind" % WHERE,
            "Rows come to the table more than 30 s late: the disk or the processor does not keep up.",
        ),
        page(
            "DiskAlmostFull",
            "tollhouse_storage_free_bytes / tollhouse_storage_size_bytes < 0.1",
            "5m",
            "{{ $value | humanizePercentage }} of the disk of %s is free" % WHERE,
            "When nothing is free rows stay in the spool, and beyond `spool.bytes_max` events are dropped.",
        ),
        ticket(
            "DiskFullSoon",
            "predict_linear(tollhouse_storage_free_bytes[6h], 24 * 3600) < 0 and tollhouse_storage_free_bytes / tollhouse_storage_size_bytes < 0.4",
            "1h",
            "The disk of %s is full within a day" % WHERE,
            "So it is if the last six hours go on: retention is longer than the disk is large.",
        ),
        page(
            "StorageDamaged",
            "tollhouse_storage_damaged_files > 0",
            "1m",
            "%s has {{ $value }} damaged files" % WHERE,
            "Files are not what was written. Answers that need their rows say that they are partial, until somebody takes note.",
        ),
        ticket(
            "CompactionFails",
            "increase(tollhouse_compaction_failures_total[1h]) > 0",
            "0s",
            "Merges of files fail at %s" % WHERE,
            "A damaged file or a full disk: files stay small, and queries over old hours become slow.",
        ),
        ticket(
            "SpansDropped",
            grew("tollhouse_spans_total", 'stage="dropped"', "5m"),
            "5m",
            "%s drops spans: {{ $labels.reason }}" % WHERE,
            "The receiver of traces is away or too slow. Rows and metrics are whole.",
        ),
        ticket(
            "MetricsOverflow",
            "increase(tollhouse_metrics_overflows_total[10m]) > 0",
            "0s",
            "%s has too many label sets of {{ $labels.family }}" % WHERE,
            "Requests of further services, routes and consumers are counted as `__overflow__`: metrics do not name them, rows do.",
        ),
        ticket(
            "BucketBehind",
            "time() - tollhouse_bucket_last_success_timestamp_seconds > 900 and on (job, instance) tollhouse_bucket_backlog_files > 0",
            "5m",
            "%s has not brought its files into the bucket for {{ $value | humanizeDuration }}" % WHERE,
            "The store is away, refuses, or is too slow. The local disk is the buffer meanwhile.",
        ),
        page(
            "BucketBacklogFull",
            "tollhouse_bucket_backlog_full == 1",
            "1m",
            "So much waits for the bucket that %s leaves events in the spool" % WHERE,
            "`object_store.backlog_bytes_max` is met. When the spool is full too, events are dropped.",
        ),
        page(
            "BucketFenced",
            "tollhouse_bucket_fenced == 1",
            "1m",
            "%s uploads nothing: another collector has its id" % WHERE,
            "Two collectors work on copies of one data folder.",
        ),
        ticket(
            "DeltaLogBehind",
            "increase(tollhouse_delta_failures_total[15m]) > 0",
            "15m",
            "The Delta log of %s is not written" % WHERE,
            "Engines that read it do not see what is new. The table, its queries and its files are as good as ever.",
        ),
        page(
            "ForwardDisconnected",
            "tollhouse_forward_connected == 0",
            "5m",
            "No receiver takes the rows of %s" % WHERE,
            "Every receiver is away or refuses. Rows wait in the spool.",
        ),
        ticket(
            "BooksDoNotBalance",
            "abs(\n"
            '  sum by (job, instance, sink) (tollhouse_events_total{stage=~"produced|recovered"})\n'
            '  - sum by (job, instance, sink) (tollhouse_events_total{stage=~"stored|dropped"})\n'
            "  - sum by (job, instance, sink) (tollhouse_events_in_flight)\n) > 0",
            "10m",
            "The books of %s do not balance for {{ $labels.sink }}" % WHERE,
            "Produced and recovered events are not stored, dropped or in flight. That is a bug: please report it with the answer of system.ledger.",
        ),
    ]


def groups():
    return [
        {"name": "tollhouse-gateway", "rules": gateway()},
        {"name": "tollhouse-objectives-burn", "rules": objectives()},
        {"name": "tollhouse-upstreams", "rules": upstreams()},
        {"name": "tollhouse-collector", "rules": collector()},
    ]
