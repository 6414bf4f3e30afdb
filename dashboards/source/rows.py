"""Panels about requests from the rows themselves, by SQL: who, what, which, and the map of services.

Statements about names, whole minutes, counts, bytes and percentiles are answered from roll-ups, so they stay quick over
days; that is why an interval is at least a minute.
"""

import re

from .grafana import TRACE_URL, lines, link, override, panel, sql, stat, steps, table
from .traffic import ERROR_STEPS

BOARD = "/d/tollhouse-%s?var-%s=${__value.raw}&${__url_time_range}"
TO_SERVICE = link("Open the service", BOARD % ("service", "service"))
TO_ROUTE = link("Open the route", BOARD % ("route", "route"))
TO_CONSUMER = link("Open the consumer", BOARD % ("consumers", "consumer"))
TO_TRACE = [
    link("Show its hops", "/d/tollhouse-latency?var-trace=${__value.raw}&${__url_time_range}"),
    link("Open in Jaeger", TRACE_URL),
]

# What is an error to SQL: the service failed, whatever the client saw.
FAILED = (
    "(status >= 500 OR outcome IN ('circuit_open', 'no_healthy_upstream', 'connect_failed', 'upstream_reset',\n"
    "        'upstream_timeout', 'gateway_error', 'overloaded'))"
)

FIELDS = [
    *(
        override(name + "_ms", unit="ms")
        for name in ("p50", "p95", "p99", "mean", "upstream", "gateway", "self")
    ),
    override("ms", unit="ms"),
    override("bytes", unit="bytes"),
    override("requests_per_s", unit="reqps"),
    override("critical_share", unit="percentunit"),
    override(
        "error_rate", unit="percentunit", thresholds=ERROR_STEPS, custom_cellOptions={"type": "color-text"}
    ),
    override("service", links=[TO_SERVICE]),
    override("callee", links=[TO_SERVICE]),
    override("route", links=[TO_ROUTE]),
    override("consumer", links=[TO_CONSUMER]),
    override("trace_id", links=TO_TRACE),
]


def rows(title, description, statement, *more):
    """A table whose columns have their units and links by their names."""
    words = set(re.findall(r"\w+", statement.split("\nFROM")[0]))
    fields = [field for field in FIELDS if field["matcher"]["options"] in words]
    return table(title, description, sql(statement), "short", overrides=fields + list(more))


PERCENTILES = ",\n       ".join(
    "latency_percentile(duration_us, %s) / 1000 AS p%d_ms" % (q, q * 100) for q in (0.5, 0.95, 0.99)
)


def asked(columns, where, tail):
    return "SELECT %s\nFROM requests\nWHERE %s\n%s" % (columns, where, tail)


def number(title, description, expression, scope, unit, **more):
    """One number of the time range."""
    statement = asked("%s AS value" % expression, scope.where(), "").rstrip()
    return stat(title, description, sql(statement), unit, **more)


def count(scope):
    return number(
        "Requests in the time range", "All requests, whatever became of them.", "count(*)", scope, "short"
    )


def failed_share(scope):
    expression = "count(*) FILTER (WHERE %s) / (count(*) * 1.0)" % FAILED
    return number(
        "Errors",
        "Share of requests in which the service failed; a refused request is no error.",
        expression,
        scope,
        "percentunit",
        thresholds=ERROR_STEPS,
        decimals=2,
    )


def refused_share(scope):
    expression = "count(*) FILTER (WHERE status >= 400 AND status < 500) / (count(*) * 1.0)"
    return number(
        "Refused",
        "Share of requests that were answered with a status of 400 to 499.",
        expression,
        scope,
        "percentunit",
        thresholds=steps((None, "green"), (0.2, "yellow"), (0.5, "red")),
        decimals=2,
    )


def bytes_moved(scope):
    return number(
        "Bytes moved",
        "Bytes of bodies, of requests and answers.",
        "sum(request_bytes) + sum(response_bytes)",
        scope,
        "bytes",
    )


def slowest_percentile(scope):
    return number(
        "p99 of the time range",
        "99 of 100 requests took less.",
        "latency_percentile(duration_us, 0.99) / 1000",
        scope,
        "ms",
        thresholds=steps((None, "green"), (500, "yellow"), (1000, "red")),
        decimals=1,
    )


def clients(scope):
    return number(
        "Clients",
        "Different addresses of clients.",
        "distinct_count(distinct_sketch(client_ip))",
        scope,
        "short",
    )


def over_time(title, description, metric, value, scope, unit, **more):
    """A line for each value of `metric`."""
    columns = "$__timeGroupAlias(time, $__interval), %s AS metric,\n       %s AS value" % (metric, value)
    statement = asked(columns, scope.where(), "GROUP BY 1, 2\nORDER BY 1")
    return lines(title, description, [sql(statement, "time_series")], unit, min=0, interval="1m", **more)


PER_SECOND = "count(*) / ($__interval_ms / 1000.0)"


def outcomes(scope):
    return over_time(
        "Requests by outcome",
        "Requests per second by how they ended, one word of a closed list.",
        "outcome",
        PER_SECOND,
        scope,
        "reqps",
        stacked=True,
    )


def consumer_services(scope):
    return over_time(
        "What it asks for",
        "Requests per second by the service that they were for.",
        "coalesce(service, 'none')",
        PER_SECOND,
        scope,
        "reqps",
        stacked=True,
    )


def consumer_classes(scope):
    classes = "CASE WHEN status IS NULL THEN 'none' ELSE concat(CAST(status / 100 AS TEXT), 'xx') END"
    return over_time(
        "Answers",
        "Requests per second by class of status.",
        classes,
        PER_SECOND,
        scope,
        "reqps",
        stacked=True,
    )


def consumer_errors(scope):
    share = "count(*) FILTER (WHERE %s) / (count(*) * 1.0)" % FAILED
    return over_time(
        "Errors by service",
        "Share of requests in which the service failed.",
        "coalesce(service, 'none')",
        share,
        scope,
        "percentunit",
        thresholds=ERROR_STEPS,
    )


def row_percentiles(scope):
    columns = "$__timeGroupAlias(time, $__interval),\n       " + ",\n       ".join(
        'latency_percentile(duration_us, %s) / 1000 AS "p%d"' % (q, q * 100) for q in (0.5, 0.95, 0.99)
    )
    statement = asked(columns, scope.where(), "GROUP BY 1\nORDER BY 1")
    return lines(
        "Percentiles of the rows",
        "So many of 100 requests took less, within 1 %.",
        [sql(statement, "time_series")],
        "ms",
        min=0,
        interval="1m",
    )


def top(title, description, names, scope, *more):
    """A table with a row for each combination of names."""
    columns = (
        "%s,\n       count(*) AS requests, count(*) FILTER (WHERE %s) / (count(*) * 1.0) AS error_rate,\n       %s,\n       sum(request_bytes) + sum(response_bytes) AS bytes"
        % (", ".join("%s AS %s" % pair for pair in names), FAILED, PERCENTILES)
    )
    groups = ", ".join(str(place) for place in range(1, len(names) + 1))
    statement = asked(columns, scope.where(*more), "GROUP BY %s\nORDER BY requests DESC\nLIMIT 20" % groups)
    return rows(title, description, statement)


def top_services(scope):
    return top(
        "Services",
        "Services by requests; the name leads to the service.",
        [("coalesce(service, 'none')", "service")],
        scope,
    )


def top_routes(scope):
    return top(
        "Routes",
        "Routes by requests; the name leads to the route.",
        [("service", "service"), ("route", "route")],
        scope,
        "route IS NOT NULL",
    )


def top_consumers(scope):
    return top(
        "Consumers",
        "Who asks most; the name leads to the consumer.",
        [("coalesce(consumer, 'anonymous')", "consumer")],
        scope,
    )


def top_paths(scope):
    return top(
        "Paths", "Methods and paths that are asked for most.", [("method", "method"), ("path", "path")], scope
    )


def refusals(scope):
    statement = asked(
        "outcome, status, coalesce(error, '') AS why, count(*) AS requests, max(time) AS last",
        scope.where("status >= 400"),
        "GROUP BY 1, 2, 3\nORDER BY requests DESC\nLIMIT 20",
    )
    return rows("What went wrong", "Answers with a status of 400 or above, by outcome and reason.", statement)


REQUEST = "time, service, route, coalesce(consumer, 'anonymous') AS consumer, method, path, status, outcome"


def failures(scope):
    statement = asked(
        REQUEST + ",\n       error, upstream_addr, duration_us / 1000.0 AS ms, trace_id",
        scope.where(FAILED),
        "ORDER BY time DESC\nLIMIT 50",
    )
    return rows(
        "Last errors", "Requests in which the service failed; the trace id leads to the trace.", statement
    )


def slowest(scope):
    columns = (
        REQUEST
        + ",\n       duration_us / 1000.0 AS ms, upstream_us / 1000.0 AS upstream_ms, gateway_us / 1000.0 AS gateway_ms, trace_id"
    )
    statement = asked(columns, scope.where(), "ORDER BY duration_us DESC\nLIMIT 20")
    return rows(
        "Slowest requests",
        "The requests that took longest, and where; the trace id leads to the trace.",
        statement,
    )


# Columns of `requests` in the order in which the time passes, each with what it is called.
PHASES = [
    ("auth_us", "authentication"),
    ("limit_us", "limits"),
    ("cache_us", "cache"),
    ("queue_us", "free connection"),
    ("dns_us", "name"),
    ("connect_us", "connect"),
    ("tls_us", "TLS"),
    ("upstream_us", "upstream"),
    ("request_body_us", "request body"),
    ("response_body_us", "response body"),
]


def phases(scope):
    columns = "$__timeGroupAlias(time, $__interval),\n       " + ",\n       ".join(
        'sum(coalesce(%s, 0)) / (count(*) * 1000.0) AS "%s"' % phase for phase in PHASES
    )
    statement = asked(columns, scope.where(), "GROUP BY 1\nORDER BY 1")
    return lines(
        "Phases",
        "What a request spent where, on average. Bodies and the wait for the upstream may overlap.",
        [sql(statement, "time_series")],
        "ms",
        min=0,
        interval="1m",
    )


def phases_by_route(scope):
    columns = (
        "service, route, count(*) AS requests, avg(duration_us) / 1000 AS mean_ms,\n       "
        + ",\n       ".join('sum(coalesce(%s, 0)) / (count(*) * 1000.0) AS "%s"' % phase for phase in PHASES)
    )
    statement = asked(
        columns, scope.where("route IS NOT NULL"), "GROUP BY 1, 2\nORDER BY mean_ms DESC\nLIMIT 20"
    )
    return rows(
        "Phases by route",
        "The same on average by route, the slowest first.",
        statement,
        *(override(name, unit="ms") for _, name in PHASES)
    )


def traces(scope):
    columns = (
        "trace_id, min(time) AS time, count(*) AS hops, count(DISTINCT service) AS services,\n"
        "       count(*) FILTER (WHERE %s) AS errors, max(duration_us) / 1000.0 AS ms" % FAILED
    )
    # Only traces of the slowest requests are put together: all of them would be as many groups as rows.
    slow = (
        "trace_id IN (SELECT trace_id FROM requests WHERE %s ORDER BY duration_us DESC LIMIT 20)"
        % scope.where("trace_id IS NOT NULL")
    )
    statement = asked(
        columns, "$__timeFilter(time) AND " + slow, "GROUP BY trace_id\nORDER BY ms DESC\nLIMIT 20"
    )
    return rows("Slowest traces", "Traces with the longest request; the id leads to its hops.", statement)


def hops():
    statement = (
        "SELECT n, concat(hop_of.indent, service) AS hop, route, consumer, method, path, status, outcome,\n"
        "       duration_us / 1000.0 AS ms, self_us / 1000.0 AS self_ms, time\n"
        "FROM (SELECT *, substr('                    ', 1, CAST(depth AS INT) * 2) AS indent FROM trace('$trace')) AS hop_of\nORDER BY n"
    )
    return rows(
        "Hops of the trace",
        "The trace whose id stands in the box above: each hop below the one that called it, and the time in which none of those below ran.",
        statement,
    )


def service_map():
    options = {
        "nodes": {"mainStatUnit": "reqps", "secondaryStatUnit": "percentunit", "arcs": []},
        "edges": {"mainStatUnit": "reqps", "secondaryStatUnit": "percentunit"},
        "zoomMode": "cooperative",
    }
    span = "($__timeFrom(), $__timeTo())"
    targets = [
        sql(
            "SELECT id, title, mainstat, secondarystat, arc__ok, arc__errors FROM graph_nodes" + span,
            refId="nodes",
        ),
        sql(
            "SELECT id, source, target, mainstat, secondarystat, detail__p95_ms, detail__critical_share FROM graph_edges"
            + span,
            refId="edges",
        ),
    ]
    overrides = [
        override("arc__ok", color={"mode": "fixed", "fixedColor": "green"}),
        override("arc__errors", color={"mode": "fixed", "fixedColor": "red"}),
    ]
    return panel(
        "nodeGraph",
        "Who calls whom",
        "Consumers and services; on each edge and node requests per second and the share of errors.",
        targets,
        "short",
        options,
        overrides=overrides,
    )


def edges():
    statement = (
        "SELECT caller, callee, requests, requests_per_s, error_rate, p50_ms, p95_ms, p99_ms, critical_share\n"
        "FROM service_graph($__timeFrom(), $__timeTo())\nORDER BY requests DESC"
    )
    return rows(
        "Calls",
        "Each edge of the map. The critical share is how much of the time that traces took was spent in the callee itself.",
        statement,
    )


def callers(scope):
    return top(
        "Callers",
        "Who asks this service.",
        [("coalesce(source_service, consumer, 'anonymous')", "caller")],
        scope,
    )
