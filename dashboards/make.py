#!/usr/bin/env python3
"""Writes the dashboards, recording rules and alerts from dashboards/source.

    dashboards/make.py            writes them
    dashboards/make.py --check    says which of them are stale, and fails if any is

Needs nothing but Python 3.9.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from source import aliases, alerts, boards, grafana, rules  # noqa: E402


def files():
    """The text of every file, by its path below this folder."""
    out = {}
    for name, make in boards.BOARDS.items():
        board = make()
        out["grafana/%s.json" % name] = as_json(grafana.imported(board))
        out["provisioning/json/%s.json" % name] = as_json(grafana.provisioned(board))
    for name, head, groups in RULES:
        out["prometheus/%s.yaml" % name] = rules.as_yaml(head + "\nWritten by dashboards/make.py.", groups())
    return out


RULES = [
    (
        "tollhouse.rules",
        "Recording rules of Tollhouse: objectives, and the ratios that alerts and dashboards read.",
        rules.recording,
    ),
    (
        "tollhouse.alerts",
        "Alerts of Tollhouse. They read tollhouse.rules.yaml; what to do stands in docs/runbooks.md.",
        alerts.groups,
    ),
    (
        "istio.rules",
        "Opt-in: Tollhouse's metrics by the names of Istio's standard metrics, for Istio's dashboards.",
        aliases.istio,
    ),
    (
        "kong.rules",
        "Opt-in: Tollhouse's metrics by the names of Kong's Prometheus plugin, for Kong's dashboard.",
        aliases.kong,
    ),
]


def as_json(value):
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    stale = 0
    for path, text in files().items():
        file = HERE / path
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print("%s dashboards/%s" % ("stale:" if arguments else "wrote", path))
        if not arguments:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
