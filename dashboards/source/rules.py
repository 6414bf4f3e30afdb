"""Prometheus rules: the recorded ratios of objectives, as groups of plain dictionaries, and their YAML."""

from .slo import AVAILABILITY, LATENCY, WINDOWS
from .traffic import DURATION, FAILED, REQUESTS


def record(name, expr, **labels):
    return {"record": name, "expr": expr, **({"labels": labels} if labels else {})}


def recording():
    """What dashboards and alerts read, so that no window of days is counted at each look."""
    objectives = [record(one.recorded_goal, "vector(%s)" % one.goal) for one in (AVAILABILITY, LATENCY)]
    short = [window for window in WINDOWS if window not in ("1d", "3d")]
    long = [window for window in WINDOWS if window not in short]

    def ratios(windows):
        return [
            record(one.recorded(window), one.bad(window))
            for one in (AVAILABILITY, LATENCY)
            for window in windows
        ]

    golden = [
        record("service:tollhouse_http_requests:rate5m", "sum by (service) (rate(%s[5m]))" % REQUESTS),
        record(
            "service:tollhouse_http_request_duration_seconds:p99_5m",
            "histogram_quantile(0.99, sum by (service, le) (rate(%s_bucket[5m])))" % DURATION,
        ),
        record(
            "tollhouse:gateway_errors:ratio_rate5m",
            'sum(rate(%s{%s,source="gateway"}[5m])) / (sum(rate(%s[5m])) > 0)' % (REQUESTS, FAILED, REQUESTS),
        ),
    ]
    return [
        {"name": "tollhouse-objectives", "rules": objectives},
        {"name": "tollhouse-ratios", "rules": golden + ratios(short)},
        # Days change slowly and cost most.
        {"name": "tollhouse-ratios-of-days", "interval": "5m", "rules": ratios(long)},
    ]


def as_yaml(head, groups):
    """The text of a rule file; nothing but the shapes above is known."""
    lines = ["# " + line for line in head.strip().splitlines()] + ["", "groups:"]
    for group in groups:
        lines.append("  - name: " + group["name"])
        if "interval" in group:
            lines.append("    interval: " + group["interval"])
        lines.append("    rules:")
        for rule in group["rules"]:
            lines += _rule(rule)
    return "\n".join(lines) + "\n"


def _rule(rule):
    kind = "record" if "record" in rule else "alert"
    lines = ["      - %s: %s" % (kind, rule[kind])]
    expr = rule["expr"].splitlines()
    lines += ["        expr: |-", *("          " + line for line in expr)]
    if "for" in rule:
        lines.append("        for: " + rule["for"])
    for key in ("labels", "annotations"):
        if key in rule:
            lines.append("        %s:" % key)
            lines += ["          %s: %s" % (name, _text(value)) for name, value in rule[key].items()]
    return lines


def _text(value):
    """A text in single quotes, as YAML wants it."""
    return "'%s'" % value.replace("'", "''")
