"""The dashboards: which panels stand where. A panel that stands on several is one function, called with their scopes."""

from . import books, rows, slo, traffic, upstreams
from .grafana import PROMETHEUS, SQL, choice, dashboard, text_box, variable
from .scope import ALL, EXPLORED, ROUTE, SERVICE, Scope

CONSUMER = Scope("consumer")


def labels(name, metric, label):
    return "label_values(%s, %s)" % (metric, label)


INSTANCE = variable(
    "instance", "Instance", labels("instance", "tollhouse_build_info", "instance"), PROMETHEUS
)
SERVICES = variable(
    "service",
    "Service",
    labels("service", 'tollhouse_http_requests_total{instance=~"$instance"}', "service"),
    PROMETHEUS,
)
ROUTES = variable(
    "route",
    "Route",
    labels("route", 'tollhouse_http_requests_total{instance=~"$instance",service=~"$service"}', "route"),
    PROMETHEUS,
)
CONSUMERS = variable(
    "consumer",
    "Consumer",
    labels(
        "consumer",
        'tollhouse_http_requests_total{instance=~"$instance",service=~"$service",route=~"$route"}',
        "consumer",
    ),
    PROMETHEUS,
)
# By SQL, since one that nobody scraped is in the rows all the same.
ONE_CONSUMER = variable(
    "consumer",
    "Consumer",
    "SELECT DISTINCT consumer FROM traffic_1m WHERE consumer IS NOT NULL AND $__timeFilter(time) ORDER BY 1",
    SQL,
)


def overview():
    return dashboard(
        "gateway",
        "gateway",
        "The golden signals of the gateway: traffic, errors, durations, saturation; and who asks for what.",
        [INSTANCE],
        [
            (
                4,
                traffic.requests(ALL),
                traffic.errors(ALL),
                traffic.p99(ALL),
                traffic.gateway_p99(ALL),
                upstreams.targets_out(),
                books.dropped_now(),
            ),
            "Traffic and errors",
            (8, traffic.requests_by(ALL, "service"), traffic.errors_by(ALL, "service")),
            (8, traffic.requests_by(ALL, "status_class"), traffic.requests_by(ALL, "source")),
            "Durations",
            (8, traffic.percentiles(ALL), traffic.p99_by(ALL, "service")),
            (8, traffic.gateway_percentiles(ALL), traffic.traffic_bytes(ALL)),
            "Saturation",
            (7, upstreams.connections_open(), books.cpu(), books.memory(), books.spool()),
            "Who and what",
            (9, rows.top_services(ALL), rows.top_consumers(ALL)),
            (8, rows.failures(ALL)),
            (7, books.firing()),
        ],
    )


def service():
    return dashboard(
        "service",
        "service",
        "One service: its routes, its callers, its upstream, its errors.",
        [INSTANCE, SERVICES],
        [
            (
                4,
                traffic.requests(SERVICE),
                traffic.errors(SERVICE),
                traffic.p99(SERVICE),
                traffic.gateway_p99(SERVICE),
            ),
            (8, traffic.requests_by(SERVICE, "route"), traffic.errors_by(SERVICE, "route")),
            (8, traffic.percentiles(SERVICE), traffic.heat_map(SERVICE)),
            (8, traffic.requests_by(SERVICE, "status_class"), traffic.requests_by(SERVICE, "consumer")),
            "Its upstream",
            (8, traffic.upstream_percentiles(SERVICE), upstreams.attempts(SERVICE)),
            (8, upstreams.target_states(SERVICE), upstreams.target_failures(SERVICE)),
            "Who and what",
            (9, rows.top_routes(SERVICE), rows.callers(SERVICE)),
            (8, rows.failures(SERVICE)),
            (8, rows.slowest(SERVICE)),
        ],
    )


def route():
    return dashboard(
        "route",
        "route",
        "One route: what is asked for on it, by whom, and where the time goes.",
        [INSTANCE, SERVICES, ROUTES],
        [
            (
                4,
                traffic.requests(ROUTE),
                traffic.errors(ROUTE),
                traffic.p99(ROUTE),
                traffic.gateway_p99(ROUTE),
            ),
            (8, traffic.requests_by(ROUTE, "method"), traffic.requests_by(ROUTE, "status_class")),
            (8, traffic.percentiles(ROUTE), traffic.heat_map(ROUTE)),
            (8, traffic.requests_by(ROUTE, "consumer"), traffic.errors_by(ROUTE, "consumer")),
            (8, rows.phases(ROUTE), traffic.traffic_bytes(ROUTE)),
            (9, rows.top_paths(ROUTE), rows.refusals(ROUTE)),
            (8, rows.failures(ROUTE)),
            (8, rows.slowest(ROUTE)),
        ],
    )


def consumer():
    return dashboard(
        "consumers",
        "consumer",
        "One consumer, from the rows: traffic, quota, errors, percentiles, what it asks for.",
        [ONE_CONSUMER],
        [
            (
                4,
                rows.count(CONSUMER),
                rows.failed_share(CONSUMER),
                rows.refused_share(CONSUMER),
                rows.slowest_percentile(CONSUMER),
                rows.bytes_moved(CONSUMER),
                rows.clients(CONSUMER),
            ),
            (8, rows.consumer_services(CONSUMER), rows.consumer_classes(CONSUMER)),
            (8, rows.row_percentiles(CONSUMER), rows.consumer_errors(CONSUMER)),
            (8, rows.outcomes(CONSUMER), upstreams.limits(CONSUMER)),
            (9, rows.top_paths(CONSUMER), rows.top_routes(CONSUMER)),
            (9, rows.top_consumers(CONSUMER), rows.refusals(CONSUMER)),
            (8, rows.failures(CONSUMER)),
        ],
    )


def latency():
    trace = text_box(
        "trace", "Trace", "0" * 32, "The id of a trace, 32 hexadecimal digits: its hops are shown below."
    )
    return dashboard(
        "latency",
        "latency explorer",
        "How long requests took, where the time went, and which ones they were.",
        [INSTANCE, SERVICES, ROUTES, CONSUMERS, trace],
        [
            (10, traffic.heat_map(EXPLORED)),
            (8, traffic.percentiles(EXPLORED), traffic.p99_by(EXPLORED, "route")),
            "Where the time went",
            (
                8,
                rows.phases(EXPLORED),
                traffic.gateway_percentiles(EXPLORED),
                traffic.upstream_percentiles(EXPLORED),
            ),
            (8, rows.phases_by_route(EXPLORED)),
            "Which ones",
            (9, rows.slowest(EXPLORED)),
            (9, rows.traces(EXPLORED)),
            (9, rows.hops()),
        ],
    )


def service_map():
    return dashboard(
        "map",
        "service map",
        "Who calls whom, from the rows: consumers, services, and what each call costs.",
        [],
        [(16, rows.service_map()), (10, rows.edges())],
    )


def upstream():
    return dashboard(
        "upstreams",
        "upstreams and retries",
        "The health of upstreams, what was tried again, and circuit breakers.",
        [INSTANCE, SERVICES],
        [
            (8, upstreams.target_states(ALL)),
            (8, upstreams.target_requests(ALL), upstreams.target_failures(ALL)),
            (8, upstreams.attempts(SERVICE), upstreams.retries(SERVICE)),
            (8, upstreams.active(ALL), upstreams.pooled(ALL)),
            (8, upstreams.ejections(ALL), upstreams.checks(ALL)),
            (8, upstreams.circuits(), upstreams.circuit_overflows()),
            (8, upstreams.state_table()),
            (8, upstreams.address_table(SERVICE)),
        ],
    )


def limits():
    return dashboard(
        "limits",
        "cache and limits",
        "What bounds traffic: circuit breakers, limits of connections and requests; what a cache answers, and quotas.",
        [INSTANCE, SERVICES],
        [
            (8, traffic.requests_by(SERVICE, "source"), upstreams.cache(SERVICE)),
            (8, upstreams.limits(SERVICE), upstreams.circuit_table()),
            (8, upstreams.circuits(), upstreams.circuit_overflows()),
            (8, upstreams.connections_open(), upstreams.connections_accepted()),
            (8, upstreams.connections_ended(), upstreams.overloaded()),
        ],
    )


def collector():
    return dashboard(
        "collector",
        "collector and ledger",
        "Whether the books balance, and what the collector does: spool, files, bucket, hosts, spans, metrics.",
        [INSTANCE],
        [
            (4, books.dropped_now(), books.damaged(), books.set_aside(), books.reloaded(), books.uptime()),
            (7, books.ledger()),
            (8, books.produced(), books.dropped()),
            (8, books.in_flight(), books.lag()),
            (8, books.spool(), books.disk()),
            "What is stored",
            (8, books.files()),
            (8, books.merges(), books.merged_bytes(), books.merge_failures()),
            "Bucket and other hosts",
            (8, books.bucket_backlog(), books.bucket_age(), books.bucket_trouble()),
            (8, books.forwarded(), books.connected()),
            "Spans, metrics, queries",
            (8, books.spans(), books.spans_queued()),
            (8, books.series(), books.overflows(), books.scrape()),
            (9, books.queries()),
            "Process",
            (8, books.cpu(), books.memory(), books.descriptors()),
            (8, books.configurations(), books.changes()),
        ],
    )


def objectives():
    goal = choice("objective", "Objective of the report", ["0.999", "0.99", "0.995", "0.9995", "0.9999"])
    period = choice("period", "Days of the report", ["30", "7", "28", "90"])
    recorded = variable(
        "service", "Service", labels("service", slo.AVAILABILITY.recorded("5m"), "service"), PROMETHEUS
    )
    return dashboard(
        "slo",
        "objectives and burn rates",
        "How much of their error budgets services have left, and how quickly it goes.",
        [recorded, goal, period],
        [
            (5, slo.availability_now(), slo.latency_now(), slo.objectives()),
            (9, slo.availability_burn(), slo.latency_burn()),
            (8, slo.bad_ratio(), slo.slow_ratio()),
            (9, slo.report()),
            (8, slo.unusual()),
            (7, books.firing()),
        ],
    )


BOARDS = {
    "gateway": overview,
    "service": service,
    "route": route,
    "consumers": consumer,
    "latency": latency,
    "map": service_map,
    "upstreams": upstream,
    "limits": limits,
    "collector": collector,
    "slo": objectives,
}
