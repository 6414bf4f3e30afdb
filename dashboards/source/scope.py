"""What a panel is about: everything, or what the variables of its dashboard pick.

A panel is a function of a scope, so that the same panel stands on the dashboard of the gateway, of a service and of a
route, and is written once.
"""

# Labels of the families of metrics.
TRAFFIC = ("service", "route", "consumer")
GATEWAY_TIME = ("service", "route")
UPSTREAM_TIME = ("service",)

RATE = "[$__rate_interval]"


class Scope:
    """Names of variables that are also labels of metrics and columns of `requests`."""

    def __init__(self, *names):
        self.names = names

    def labels(self, *more, of=TRAFFIC):
        """Matchers of a PromQL selector, of those labels that the family has; `more` stands after them."""
        picked = ['%s=~"$%s"' % (name, name) for name in self.names if name in of]
        return "{%s}" % ",".join(['instance=~"$instance"', *picked, *more])

    def where(self, *more):
        """The conditions of a statement about `requests` in the time range."""
        picked = ["coalesce(%s, '') ~ '^(${%s:regex})$'" % (name, name) for name in self.names]
        return " AND ".join(["$__timeFilter(time)", *picked, *more])


ALL = Scope()
SERVICE = Scope("service")
ROUTE = Scope("service", "route")
EXPLORED = Scope("service", "route", "consumer")


def rate(name, selector):
    """Per second."""
    return "rate(%s%s%s)" % (name, selector, RATE)


def total(name, selector, by=""):
    """Per second, added up."""
    return "sum%s(%s)" % (" by (%s) " % by if by else "", rate(name, selector))


def quantile(q, name, selector, by=""):
    """A quantile of a histogram, in seconds."""
    return "histogram_quantile(%s, %s)" % (
        q,
        total(name + "_bucket", selector, "le" + (", " + by if by else "")),
    )


def ratio(part, whole):
    """A share; 0 where the part has no series yet."""
    return "(%s or %s * 0) / %s" % (part, whole, whole)
