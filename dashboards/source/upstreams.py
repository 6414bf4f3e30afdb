"""Panels about upstreams, and about what bounds traffic: circuits, connections, cache."""

from .grafana import lines, override, panel, prom, sql, stat, steps, table
from .scope import UPSTREAM_TIME, rate, total

TARGET = "{{upstream}}{{service}} {{address}}"
NOT_GOOD = steps((None, "green"), (1, "red"))
BY_TARGET = "service, upstream, address"
ATTEMPTS = "tollhouse_upstream_attempts_total"


def of_targets(scope, make):
    """What `make` makes of a selector, for the addresses of the services in the scope.

    An address of an upstream does not say which services use it: their attempts do.
    """
    if not scope.names:
        return make('{instance=~"$instance"}')
    own = make(scope.labels('upstream=""', of=UPSTREAM_TIME))
    shared = make('{instance=~"$instance",upstream!=""}')
    return "%s or %s and on (job, instance, upstream) %s%s" % (
        own,
        shared,
        ATTEMPTS,
        scope.labels(of=UPSTREAM_TIME),
    )


def targets_out():
    return stat(
        "Targets out",
        "Addresses that get no requests: unhealthy, ejected, or without an address.",
        prom('count(tollhouse_upstream_target_healthy{instance=~"$instance"} == 0) or vector(0)', "out"),
        "short",
        thresholds=NOT_GOOD,
    )


def target_states(scope):
    options = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    mappings = [
        {
            "type": "value",
            "options": {
                "0": {"text": "out", "color": "red", "index": 0},
                "1": {"text": "in", "color": "green", "index": 1},
            },
        }
    ]
    return panel(
        "state-timeline",
        "Targets",
        "Whether an address is given requests.",
        [
            prom(
                "min by (%s) (%s)"
                % (BY_TARGET, of_targets(scope, "tollhouse_upstream_target_healthy%s".__mod__)),
                TARGET,
            )
        ],
        "short",
        options,
        mappings=mappings,
        color="thresholds",
        custom={"lineWidth": 0, "fillOpacity": 80},
        thresholds=steps((None, "red"), (1, "green")),
    )


def target_gauge(scope, title, description, name):
    """A gauge of each address."""
    expr = "sum by (%s) (%s)" % (BY_TARGET, of_targets(scope, (name + "%s").__mod__))
    return lines(title, description, [prom(expr, TARGET)], "short", min=0)


def active(scope):
    return target_gauge(
        scope,
        "Requests under way",
        "Requests that an address is working on.",
        "tollhouse_upstream_target_active_requests",
    )


def pooled(scope):
    return target_gauge(
        scope,
        "Connections to targets",
        "Open connections, idle ones too.",
        "tollhouse_upstream_target_connections",
    )


def target_rate(scope, name):
    """A counter of each address, per second."""
    return "sum by (%s) (%s)" % (BY_TARGET, of_targets(scope, lambda selector: rate(name, selector)))


def target_requests(scope):
    return lines(
        "Tries by target",
        "Tries per second that an address was given.",
        [prom(target_rate(scope, "tollhouse_upstream_target_requests_total"), TARGET)],
        "reqps",
        stacked=True,
        min=0,
    )


def target_failures(scope):
    failed, tried = (
        target_rate(scope, "tollhouse_upstream_target_%s_total" % name) for name in ("failures", "requests")
    )
    return lines(
        "Failures by target",
        "Share of tries without an answer, or with a status of 500 or above.",
        [prom("%s / %s" % (failed, tried), TARGET)],
        "percentunit",
        min=0,
        thresholds=steps((None, "green"), (0.05, "red")),
    )


def attempts(scope):
    return lines(
        "Tries by how they ended",
        "Tries at upstreams per second; a request that is tried again is more than one.",
        [prom(total(ATTEMPTS, scope.labels(of=UPSTREAM_TIME), "outcome"), "{{outcome}}")],
        "reqps",
        stacked=True,
        min=0,
    )


def retries(scope):
    labels = scope.labels(of=UPSTREAM_TIME)
    tried = total(ATTEMPTS, labels, "service")
    return lines(
        "Tried again",
        "Tries beyond the first, by request that went to an upstream. It multiplies load while something fails.",
        [
            prom(
                "%s / %s - 1"
                % (tried, total("tollhouse_http_upstream_duration_seconds_count", labels, "service")),
                "{{service}}",
            )
        ],
        "percentunit",
        min=0,
        thresholds=steps((None, "green"), (0.2, "red")),
    )


def ejections(scope):
    increase = (
        lambda selector: "increase(tollhouse_upstream_target_ejections_total%s[$__rate_interval])" % selector
    )
    return lines(
        "Ejections",
        "How often outlier detection has taken addresses out, in the interval of a point.",
        [prom("sum by (%s) (%s)" % (BY_TARGET, of_targets(scope, increase)), TARGET)],
        "short",
        stacked=True,
        min=0,
    )


def checks(scope):
    made = of_targets(scope, lambda selector: rate("tollhouse_upstream_target_checks_total", selector))
    return lines(
        "Active checks",
        "Checks per second by what they showed.",
        [prom("sum by (result) (%s)" % made, "{{result}}")],
        "ops",
        stacked=True,
        min=0,
    )


def circuits():
    of = 'tollhouse_upstream_circuit_%s{instance=~"$instance"}'
    return lines(
        "Circuit breakers: what is used",
        "Share of each bound that is in use. At 1 a further request is answered 503, or not tried again.",
        [
            prom(
                "sum by (upstream, resource) (%s) / sum by (upstream, resource) (%s)"
                % (of % "used", of % "limit"),
                "{{upstream}} {{resource}}",
            )
        ],
        "percentunit",
        min=0,
        max=1,
        thresholds=steps((None, "green"), (0.8, "yellow"), (1, "red")),
    )


def circuit_overflows():
    return lines(
        "Circuit breakers: beyond a bound",
        "How often per second one more was asked for than a bound allows.",
        [
            prom(
                total(
                    "tollhouse_upstream_circuit_overflows_total",
                    '{instance=~"$instance"}',
                    "upstream, resource",
                ),
                "{{upstream}} {{resource}}",
            )
        ],
        "ops",
        min=0,
        thresholds=steps((None, "green"), (0.01, "red")),
    )


def state_table():
    statement = (
        "SELECT coalesce(upstream, service) AS upstream, target, address, state, since, active, connections, requests, failures,\n"
        "       last_failure, last_failure_by, last_failure_at\nFROM system.upstreams\nORDER BY state = 'healthy', 1, 2, 3"
    )
    return table(
        "Addresses now",
        "How each address is, since when, and why it last failed. Of the gateway's present life.",
        sql(statement),
        "short",
    )


def circuit_table():
    return table(
        "Circuit breakers now",
        "What upstreams with circuit breakers are given, and how often one more was asked for.",
        sql(
            "SELECT upstream, resource, used, most, overflows FROM system.circuits ORDER BY overflows DESC, upstream, resource"
        ),
        "short",
    )


def address_table(scope):
    statement = (
        "SELECT attempt['addr'] AS address, coalesce(attempt['error'], 'ok') AS ended, count(*) AS tries,\n"
        "       avg(attempt['duration_us']) / 1000 AS mean_ms, avg(CASE WHEN attempt['connection_reused'] THEN 1.0 ELSE 0.0 END) AS reused\n"
        "FROM (SELECT unnest(attempts) AS attempt FROM requests WHERE %s)\nGROUP BY 1, 2\nORDER BY tries DESC\nLIMIT 50"
        % scope.where()
    )
    return table(
        "Tries by address",
        "Each try at an address in the time range, the failed ones too; how many had a connection that was there.",
        sql(statement),
        "short",
        overrides=[override("mean_ms", unit="ms"), override("reused", unit="percentunit")],
    )


def connections_open():
    return lines(
        "Client connections",
        "Client connections that are open.",
        [prom('sum by (instance) (tollhouse_connections_open{instance=~"$instance"})', "{{instance}}")],
        "short",
        min=0,
    )


def connections_accepted():
    return lines(
        "New client connections",
        "Client connections per second that were accepted.",
        [
            prom(
                total("tollhouse_connections_accepted_total", '{instance=~"$instance"}', "instance"),
                "{{instance}}",
            )
        ],
        "ops",
        min=0,
    )


def connections_ended():
    return lines(
        "Connections turned away or cut",
        "Client connections per second that met a bound, by its name in `gateway.limits`.",
        [prom(total("tollhouse_connections_ended_total", '{instance=~"$instance"}', "reason"), "{{reason}}")],
        "ops",
        min=0,
        thresholds=steps((None, "green"), (0.01, "red")),
    )


def overloaded():
    return lines(
        "Requests beyond the bound",
        "Requests per second that were answered 503, because `gateway.limits.requests_max` were under way.",
        [
            prom(
                total("tollhouse_requests_overloaded_total", '{instance=~"$instance"}', "instance"),
                "{{instance}}",
            )
        ],
        "reqps",
        min=0,
        thresholds=steps((None, "green"), (0.01, "red")),
    )


def cache(scope):
    statement = (
        "SELECT $__timeGroupAlias(time, $__interval), coalesce(cache_status, 'no cache') AS metric,\n"
        "       count(*) / ($__interval_ms / 1000.0) AS requests\nFROM requests\nWHERE %s\nGROUP BY 1, 2\nORDER BY 1"
        % scope.where()
    )
    return lines(
        "Cache",
        "Requests per second by what the cache had: `hit`, `miss`, `refresh`, `bypass`, or no cache was asked.",
        [sql(statement, "time_series")],
        "reqps",
        stacked=True,
        min=0,
        interval="1m",
    )


def limits(scope):
    statement = (
        "SELECT coalesce(limit_policy, 'no limit') AS limit, count(*) AS requests,\n"
        "       count(*) FILTER (WHERE status = 429) AS refused, min(limit_remaining) AS least_left\n"
        "FROM requests\nWHERE %s\nGROUP BY 1\nORDER BY requests DESC" % scope.where()
    )
    return table(
        "Quota",
        "Requests by the limit that decided about them, how many it refused (429), and the least that it had left.",
        sql(statement),
        "short",
    )
