"""Recording rules that give Tollhouse's metrics the names of Istio's standard metrics and of Kong's Prometheus plugin.

They are for dashboards that people have already, and are opt-in: each is a copy of series. What Tollhouse does not
measure has no alias; dashboards/README.md says which panels stay empty for it.
"""

from .rules import record
from .traffic import DURATION, GATEWAY, REQUESTS, UPSTREAM

# The default of collector.metrics.duration_bounds_us, as `le` in seconds and in milliseconds.
BOUNDS = [
    ("0.0005", "0.5"),
    ("0.001", "1"),
    ("0.0025", "2.5"),
    ("0.005", "5"),
    ("0.01", "10"),
    ("0.025", "25"),
    ("0.05", "50"),
    ("0.1", "100"),
    ("0.25", "250"),
    ("0.5", "500"),
    ("1.0", "1000"),
    ("2.5", "2500"),
    ("5.0", "5000"),
    ("10.0", "10000"),
    ("30.0", "30000"),
    ("60.0", "60000"),
    ("+Inf", "+Inf"),
]


def replaced(expr, new, value, old, pattern):
    return 'label_replace(%s, "%s", "%s", "%s", "%s")' % (expr, new, value, old, pattern)


def histogram(name, family, selected, **labels):
    """A histogram of seconds as one of milliseconds: `selected` makes a series of a selector."""
    rules = [
        record(name + "_bucket", selected("%s_bucket" % family, 'le="%s"' % seconds), **labels, le=ms)
        for seconds, ms in BOUNDS
    ]
    rules.append(record(name + "_sum", "%s * 1000" % selected(family + "_sum", ""), **labels))
    rules.append(record(name + "_count", selected(family + "_count", ""), **labels))
    return rules


# Istio

NOWHERE = {
    "source_workload_namespace": "unknown",
    "destination_workload_namespace": "unknown",
    "source_cluster": "unknown",
    "destination_cluster": "unknown",
    "connection_security_policy": "unknown",
    "request_protocol": "http",
    "response_flags": "-",
}


def _istio(expr):
    """The consumer as the workload that asks, the service as the one that answers; both sides report, as in a mesh."""
    expr = replaced(expr, "source_workload", "$1", "consumer", "(.+)")
    expr = replaced(expr, "source_workload", "unknown", "consumer", "")
    for label in (
        "destination_service",
        "destination_service_name",
        "destination_workload",
        "destination_canonical_service",
    ):
        expr = replaced(expr, label, "$1", "service", "(.+)")
        expr = replaced(expr, label, "unknown", "service", "")
    expr = "sum without (service, consumer) (%s)" % expr
    sides = [
        'label_replace(%s, "reporter", "%s", "", "")' % (expr, side) for side in ("source", "destination")
    ]
    return "\nor\n".join(sides)


def _istio_of(name, selector):
    return _istio("sum by (job, instance, service, consumer) (%s{%s})" % (name, selector))


def _istio_sum(name, selector):
    # Two sides that are multiplied together need no parentheses of their own.
    return "(%s)" % _istio_of(name, selector) if name.endswith("_sum") else _istio_of(name, selector)


def istio():
    coded = replaced(
        "sum by (job, instance, service, consumer, status_class) (%s)" % REQUESTS,
        "response_code",
        "$1",
        "status_class",
        "(.+)",
    )
    requests = [record("istio_requests_total", _istio("sum without (status_class) (%s)" % coded), **NOWHERE)]
    sizes = []
    for name, counter in (
        ("istio_request_bytes", "tollhouse_http_request_bytes_total"),
        ("istio_response_bytes", "tollhouse_http_response_bytes_total"),
    ):
        sizes.append(record(name + "_sum", _istio_of(counter, ""), **NOWHERE))
        sizes.append(record(name + "_count", _istio_of(DURATION + "_count", ""), **NOWHERE))
    build = [
        record(
            "istio_build",
            replaced(
                replaced(
                    "sum by (job, instance, version) (tollhouse_build_info)", "tag", "$1", "version", "(.+)"
                ),
                "component",
                "tollhouse",
                "",
                "",
            ),
        )
    ]
    return [
        {"name": "tollhouse-as-istio", "rules": requests + sizes + build},
        {
            "name": "tollhouse-as-istio-durations",
            "rules": histogram("istio_request_duration_milliseconds", DURATION, _istio_sum, **NOWHERE),
        },
    ]


# Kong


def _kong_of(by):
    """Series by labels that Kong has too; what no service is for Kong does not count."""
    return lambda name, selector: "sum by (job, instance, %s) (%s{%s})" % (
        by,
        name,
        ",".join(['service!=""'] + [selector] * bool(selector)),
    )


def kong():
    code = replaced('%s{service!=""}' % REQUESTS, "code", "$1", "status_class", "(.+)")
    # Kong says `service` or `kong`.
    source = replaced(
        replaced(code, "source", "kong", "source", "gateway|cache"), "source", "service", "source", "upstream"
    )
    requests = [
        record(
            "kong_http_requests_total",
            "sum by (job, instance, service, route, consumer, code, source) (%s)" % source,
            workspace="default",
        )
    ]
    moved = [
        record(
            "kong_bandwidth_bytes",
            _kong_of("service, route, consumer")(counter, ""),
            direction=direction,
            workspace="default",
        )
        for counter, direction in (
            ("tollhouse_http_request_bytes_total", "ingress"),
            ("tollhouse_http_response_bytes_total", "egress"),
        )
    ]
    health = "sum by (job, instance, upstream, target, address) (%s)"
    known = 'tollhouse_upstream_target_healthy{upstream!=""%s}'
    states = [
        record("kong_upstream_target_health", health % expr, state=state, subsystem="http")
        for state, expr in (
            ("healthy", known % ""),
            ("unhealthy", "1 - " + known % ',address!=""'),
            ("dns_error", "1 - " + known % ',address=""'),
            ("healthchecks_off", "0 * " + known % ""),
        )
    ]
    whole = "sum by (job, instance) (%s)"
    connections = [
        record("kong_nginx_connections_total", whole % name, state=state, subsystem="http")
        for state, name in (
            ("active", "tollhouse_connections_open"),
            ("accepted", "tollhouse_connections_accepted_total"),
            ("handled", "tollhouse_connections_accepted_total"),
            ("total", REQUESTS),
        )
    ]
    own = [
        record("kong_nginx_requests_total", whole % REQUESTS, subsystem="http"),
        record("kong_node_info", "sum by (job, instance, version) (tollhouse_build_info)"),
    ]
    by_route = _kong_of("service, route")
    return [
        {"name": "tollhouse-as-kong", "rules": requests + moved + states + connections + own},
        {
            "name": "tollhouse-as-kong-latency",
            "rules": [
                *histogram("kong_request_latency_ms", DURATION, by_route, workspace="default"),
                *histogram("kong_kong_latency_ms", GATEWAY, by_route, workspace="default"),
                # Tollhouse counts it by service and upstream.
                *histogram("kong_upstream_latency_ms", UPSTREAM, _kong_of("service"), workspace="default"),
            ],
        },
    ]
