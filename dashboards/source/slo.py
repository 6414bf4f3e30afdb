"""Objectives of services: the recorded ratios that alerts and the dashboard of objectives both read.

Windows and burn rates are those of The Site Reliability Workbook (2018), chapter 5, table 5-8.
"""

from .grafana import lines, override, prom, sql, stat, steps, table
from .rows import TO_SERVICE
from .traffic import DURATION, FAILED, REQUESTS

WINDOWS = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]

# Burn rate, long window, short window.
PAGE = [("14.4", "1h", "5m"), ("6", "6h", "30m")]
TICKET = [("3", "1d", "2h"), ("1", "3d", "6h")]

# Requests that take longer than this many seconds are slow; a bound of collector.metrics.duration_bounds_us.
SLOW = "0.5"


class Objective:
    """What share of requests is to be good, and how the bad share of a window is recorded."""

    def __init__(self, name, goal, bad):
        self.name, self.goal, self.bad = name, goal, bad
        self.recorded_goal = "tollhouse:slo_%s:objective" % name

    def recorded(self, window):
        return "service:tollhouse_slo_%s:ratio_rate%s" % (self.name, window)

    def budget(self):
        return "(1 - scalar(%s))" % self.recorded_goal

    def burns(self, rates):
        """A budget that burns at one of the rates, for its long window and just now."""
        both = "%s > %s * %s and %s > %s * %s"
        parts = [
            both % (self.recorded(long), rate, self.budget(), self.recorded(short), rate, self.budget())
            for rate, long, short in rates
        ]
        return "\nor\n".join("(%s)" % part for part in parts)


def _errors(window):
    whole = "sum by (service) (rate(%s[%s]))" % (REQUESTS, window)
    return "(sum by (service) (rate(%s{%s}[%s])) or %s * 0) / (%s > 0)" % (
        REQUESTS,
        FAILED,
        window,
        whole,
        whole,
    )


def _slow(window):
    in_time = 'sum by (service) (rate(%s_bucket{le="%s"}[%s]))' % (DURATION, SLOW, window)
    return "1 - %s / (sum by (service) (rate(%s_count[%s])) > 0)" % (in_time, DURATION, window)


AVAILABILITY = Objective("availability", 0.999, _errors)
LATENCY = Objective("latency", 0.99, _slow)


def of_service(objective, window):
    return '%s{service=~"$service"}' % objective.recorded(window)


def burn_lines(objective, title, description):
    return lines(
        title,
        description,
        [
            prom("%s / %s" % (of_service(objective, window), objective.budget()), "{{service}} " + window)
            for window in ("5m", "1h", "6h", "3d")
        ],
        "short",
        min=0,
        thresholds=steps((None, "green"), (1, "yellow"), (6, "orange"), (14.4, "red")),
    )


def availability_burn():
    return burn_lines(
        AVAILABILITY,
        "Burn of the error budget",
        "How quickly errors use up what the objective allows, by window: 1 uses it up in just its period. Wants the recording rules.",
    )


def latency_burn():
    return burn_lines(
        LATENCY,
        "Burn of the latency budget",
        "The same of requests that took more than %s s. Wants the recording rules." % SLOW,
    )


def good(objective, title, description):
    return stat(
        title,
        description,
        prom("1 - max(%s)" % of_service(objective, "6h"), "good"),
        "percentunit",
        decimals=3,
        thresholds=steps((None, "red"), (objective.goal, "green")),
    )


def availability_now():
    return good(
        AVAILABILITY,
        "Availability",
        "Share of requests of the last 6 hours without a status of 500 or above, of the worst service picked.",
    )


def latency_now():
    return good(
        LATENCY,
        "In time",
        "Share of requests of the last 6 hours that took at most %s s, of the worst service picked." % SLOW,
    )


def objectives():
    return lines(
        "Objectives",
        "What share of requests is to be good. To change one, change its recording rule.",
        [prom(one.recorded_goal, one.name) for one in (AVAILABILITY, LATENCY)],
        "percentunit",
        min=0.9,
        max=1,
        decimals=3,
    )


def bad_ratio():
    return lines(
        "Errors of the last five minutes",
        "Share of requests with a status of 500 or above, as the alerts see it.",
        [prom(of_service(AVAILABILITY, "5m"), "{{service}}")],
        "percentunit",
        min=0,
    )


def slow_ratio():
    return lines(
        "Slow requests of the last five minutes",
        "Share of requests that took more than %s s, as the alerts see it." % SLOW,
        [prom(of_service(LATENCY, "5m"), "{{service}}")],
        "percentunit",
        min=0,
    )


def report():
    statement = (
        "SELECT name AS service, requests, errors, availability, objective, budget_left,\n"
        "       burn_5m, burn_30m, burn_1h, burn_6h, burn_3d, alert\nFROM slo_report($objective, INTERVAL '$period days')\nORDER BY budget_left"
    )
    return table(
        "Budgets from the rows",
        "What is left of each service's error budget, counted over rows: no Prometheus is asked.",
        sql(statement),
        "short",
        overrides=[
            override("service", links=[TO_SERVICE]),
            override("availability", unit="percentunit", decimals=3),
            override("objective", unit="percentunit"),
            override(
                "budget_left",
                unit="percentunit",
                thresholds=steps((None, "red"), (0, "yellow"), (0.25, "green")),
                custom_cellOptions={"type": "color-text"},
            ),
        ],
    )


def unusual():
    statement = (
        "SELECT time, name AS service, measure, value, expected, score\n"
        "FROM anomalies($__timeFrom(), $__timeTo(), step => INTERVAL '1 minute', threshold => 3.5)\nORDER BY abs(score) DESC\nLIMIT 50"
    )
    return table(
        "Unusual minutes",
        "Minutes in which requests, error rate or p95 of a service are far from its median.",
        sql(statement),
        "short",
    )
