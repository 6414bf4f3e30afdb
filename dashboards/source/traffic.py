"""Panels about requests: rate, errors, duration, bytes, from Prometheus."""

from .grafana import link, lines, panel, prom, stat, steps
from .scope import GATEWAY_TIME, UPSTREAM_TIME, quantile, ratio, total

REQUESTS = "tollhouse_http_requests_total"
DURATION = "tollhouse_http_request_duration_seconds"
GATEWAY = "tollhouse_http_gateway_duration_seconds"
UPSTREAM = "tollhouse_http_upstream_duration_seconds"
FAILED = 'status_class="5xx"'

ERROR_STEPS = steps((None, "green"), (0.01, "yellow"), (0.05, "red"))
LATENCY_STEPS = steps((None, "green"), (0.5, "yellow"), (1, "red"))

# What a line is called by its label; an empty label is nobody's.
CALLED = {
    "service": ("service", "service"),
    "route": ("route", "route"),
    "consumer": ("consumer", "consumer"),
    "status_class": ("class of status", "status_class"),
    "method": ("method", "method"),
    "source": ("who answered", "source"),
}


def error_ratio(scope, by=""):
    """Requests with a status of 500 or above, of all."""
    whole = total(REQUESTS, scope.labels(), by)
    return ratio(total(REQUESTS, scope.labels(FAILED), by), whole)


def requests(scope):
    return stat(
        "Requests",
        "Requests per second, whatever the answer was.",
        prom(total(REQUESTS, scope.labels()), "requests"),
        "reqps",
        decimals=1,
    )


def errors(scope):
    return stat(
        "Error ratio",
        "Share of requests that were answered with a status of 500 or above, by the service or for it.",
        prom(error_ratio(scope), "errors"),
        "percentunit",
        thresholds=ERROR_STEPS,
        decimals=2,
    )


def p99(scope):
    return stat(
        "p99",
        "99 of 100 requests took less, from their head to the last byte of the answer.",
        prom(quantile(0.99, DURATION, scope.labels()), "p99"),
        "s",
        thresholds=LATENCY_STEPS,
        decimals=1,
    )


def gateway_p99(scope):
    return stat(
        "p99 in the gateway",
        "99 of 100 requests spent less in the gateway itself, the wait for the service left out.",
        prom(quantile(0.99, GATEWAY, scope.labels(of=GATEWAY_TIME)), "p99"),
        "s",
        thresholds=steps((None, "green"), (0.01, "yellow"), (0.05, "red")),
        decimals=1,
    )


def requests_by(scope, label, link_to=None):
    name, by = CALLED[label]
    more = {"links": [link(*link_to)]} if link_to else {}
    return lines(
        "Requests by " + name,
        "Requests per second by %s; without a name: of none." % name,
        [prom(total(REQUESTS, scope.labels(), by), "{{%s}}" % by)],
        "reqps",
        stacked=True,
        min=0,
        **more,
    )


def errors_by(scope, label):
    name, by = CALLED[label]
    return lines(
        "Error ratio by " + name,
        "Share of requests with a status of 500 or above by %s." % name,
        [prom(error_ratio(scope, by), "{{%s}}" % by)],
        "percentunit",
        min=0,
        thresholds=ERROR_STEPS,
    )


def percentiles(scope):
    return lines(
        "Duration percentiles",
        "So many of 100 requests took less. A dot is one request, and leads to its trace.",
        [
            prom(
                quantile(q, DURATION, scope.labels()),
                "p%g" % (q * 100),
                **({"exemplar": True} if q == 0.99 else {}),
            )
            for q in (0.5, 0.9, 0.95, 0.99)
        ],
        "s",
        min=0,
    )


def p99_by(scope, label):
    name, by = CALLED[label]
    return lines(
        "p99 by " + name,
        "99 of 100 requests took less, by %s." % name,
        [prom(quantile(0.99, DURATION, scope.labels(), by), "{{%s}}" % by)],
        "s",
        min=0,
        thresholds=LATENCY_STEPS,
    )


def gateway_percentiles(scope):
    return lines(
        "Time in the gateway",
        "What the gateway itself took: parsing, routing, authentication, forwarding, bodies.",
        [prom(quantile(q, GATEWAY, scope.labels(of=GATEWAY_TIME)), "p%g" % (q * 100)) for q in (0.5, 0.99)],
        "s",
        min=0,
    )


def upstream_percentiles(scope):
    return lines(
        "Time of upstreams",
        "The wait for upstreams, all tries of a request together.",
        [
            prom(
                quantile(q, UPSTREAM, scope.labels(of=UPSTREAM_TIME)),
                "p%g" % (q * 100),
                **({"exemplar": True} if q == 0.99 else {}),
            )
            for q in (0.5, 0.95, 0.99)
        ],
        "s",
        min=0,
    )


def traffic_bytes(scope):
    return lines(
        "Bytes",
        "Bytes of bodies per second, from clients and to them.",
        [
            prom(total("tollhouse_http_request_bytes_total", scope.labels()), "received"),
            prom(total("tollhouse_http_response_bytes_total", scope.labels()), "sent"),
        ],
        "Bps",
        min=0,
    )


def heat_map(scope):
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "rowsFrame": {"layout": "auto"},
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 64,
            "fill": "dark-orange",
            "reverse": False,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    }
    expr = "sum by (le) (increase(%s_bucket%s[$__rate_interval]))" % (DURATION, scope.labels())
    return panel(
        "heatmap",
        "Durations",
        "How many requests took how long. A dot is one request, and leads to its trace.",
        [prom(expr, "{{le}}", format="heatmap", exemplar=True)],
        "s",
        options,
    )
