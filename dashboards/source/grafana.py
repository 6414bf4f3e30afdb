"""Grafana's JSON: data sources, variables, panels, targets, dashboards.

Nothing here knows what Tollhouse measures. A panel names its data source by a variable of the dashboard
(`${prometheus}`, `${tollhouse}`, `${jaeger}`); what differs between a dashboard that is imported and one that is
provisioned is only what these variables begin with.
"""

PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
SQL = {"type": "grafana-postgresql-datasource", "uid": "${tollhouse}"}

# Variable, plugin, name on import, what it is for, uid where the data sources are provisioned.
SOURCES = [
    (
        "prometheus",
        "prometheus",
        "Prometheus",
        "The Prometheus that scrapes Tollhouse's /metrics.",
        "tollhouse-prometheus",
    ),
    (
        "tollhouse",
        "grafana-postgresql-datasource",
        "PostgreSQL",
        "Tollhouse's own SQL: host 127.0.0.1:8432, database tollhouse.",
        "tollhouse-sql",
    ),
    ("jaeger", "jaeger", "Jaeger", "The Jaeger that gets Tollhouse's spans.", "tollhouse-jaeger"),
]

PANEL_NAMES = {
    "heatmap": "Heatmap",
    "nodeGraph": "Node Graph",
    "stat": "Stat",
    "state-timeline": "State timeline",
    "table": "Table",
    "timeseries": "Time series",
}

# Opens a trace id in Jaeger.
TRACE_URL = (
    '/explore?schemaVersion=1&panes={"trace":{"datasource":"${jaeger}","queries":[{"refId":"A","datasource":'
    '{"type":"jaeger","uid":"${jaeger}"},"query":"${__value.raw}"}],"range":{"from":"${__from}","to":"${__to}"}}}'
)


def prom(expr, legend="", **more):
    """A PromQL query over the time range."""
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend,
        "range": True,
        **more,
    }


def prom_table(expr):
    """A PromQL query of this moment, as a table."""
    return {"datasource": PROMETHEUS, "editorMode": "code", "expr": expr, "format": "table", "instant": True}


def sql(statement, format="table", **more):
    """A statement for the PostgreSQL data source."""
    return {
        "datasource": SQL,
        "editorMode": "code",
        "format": format,
        "rawQuery": True,
        "rawSql": statement,
        **more,
    }


def steps(*pairs):
    """Thresholds: a colour, and the value from which on it holds (None for the first)."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in pairs]}


GREEN = steps((None, "green"))


def override(name, **properties):
    """What holds for the field of this name; `custom_x` is `custom.x`."""
    def as_id(key):
        return key.replace("custom_", "custom.")

    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": as_id(key), "value": value} for key, value in properties.items()],
    }


def link(title, url):
    """A link from a value."""
    return {"title": title, "url": url, "targetBlank": False}


def panel(kind, title, description, targets, unit, options, **more):
    """A panel: its place, ids and the letters of its queries come with the dashboard."""
    config = {"unit": unit, "noValue": "no data", "thresholds": more.get("thresholds", GREEN)}
    config |= {
        key: more[key]
        for key in ("min", "max", "decimals", "mappings", "custom", "links", "displayName")
        if key in more
    }
    config["color"] = {"mode": more.get("color", "palette-classic")}
    out = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": targets[0]["datasource"],
        "fieldConfig": {"defaults": config, "overrides": more.get("overrides", [])},
        "options": options,
        "targets": targets,
    }
    return out | {key: more[key] for key in ("interval", "transformations") if key in more}


def stat(title, description, target, unit, **more):
    """One number, and how it went."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return panel("stat", title, description, [target], unit, options, color="thresholds", **more)


def lines(title, description, targets, unit, stacked=False, **more):
    """Lines over time, or bars that add up."""
    custom = {
        "drawStyle": "bars" if stacked else "line",
        "lineWidth": 1,
        "fillOpacity": 70 if stacked else 10,
        "showPoints": "never" if stacked else "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisSoftMin": 0,
        "thresholdsStyle": {"mode": "dashed" if "thresholds" in more else "off"},
    }
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["mean", "max", "lastNotNull"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, targets, unit, options, custom=custom, **more)


def table(title, description, target, unit, **more):
    """Rows."""
    options = {"showHeader": True, "cellHeight": "sm", "frameIndex": 0}
    return panel("table", title, description, [target], unit, options, color="thresholds", **more)


def variable(name, label, query, source, **more):
    """A variable whose values a query gives."""
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    is_prometheus = source is PROMETHEUS
    out = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source,
        "definition": query,
        "query": {"query": query, "refId": name} if is_prometheus else query,
        "regex": "",
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": everything,
    }
    return out | more


def choice(name, label, values, **more):
    """A variable of fixed values; the first is what it begins with."""
    option = lambda value, selected: {"selected": selected, "text": value, "value": value}
    return {
        "name": name,
        "label": label,
        "type": "custom",
        "query": ",".join(values),
        "hide": 0,
        "skipUrlSync": False,
        "includeAll": False,
        "multi": False,
        "current": option(values[0], True),
        "options": [option(value, value == values[0]) for value in values],
        **more,
    }


def text_box(name, label, value, description):
    """A variable that is typed."""
    option = {"selected": True, "text": value, "value": value}
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "textbox",
        "query": value,
        "hide": 0,
        "skipUrlSync": False,
        "current": option,
        "options": [option],
    }


def row(title):
    """A heading between panels."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def laid_out(rows):
    """Panels with places and numbers. A row is a title, or a height and panels of one width that fill 24 columns."""
    out, y = [], 0
    for entry in rows:
        if isinstance(entry, str):
            out.append(row(entry) | {"gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
            y += 1
            continue
        height, *panels = entry
        width = 24 // len(panels)
        for place, one in enumerate(panels):
            out.append(one | {"gridPos": {"x": place * width, "y": y, "w": width, "h": height}})
        y += height
    numbered = []
    for number, one in enumerate(out, 1):
        targets = [
            {"refId": target.get("refId", chr(ord("A") + place))} | target
            for place, target in enumerate(one.get("targets", []))
        ]
        numbered.append({"id": number} | one | ({"targets": targets} if targets else {}))
    return numbered


def used_sources(board):
    """Those of SOURCES that a dashboard names."""
    text = repr(board)
    return [source for source in SOURCES if "${%s}" % source[0] in text]


def dashboard(uid, title, description, variables, rows, links=()):
    """A dashboard without its data sources: `imported` and `provisioned` say where these come from."""
    return {
        "uid": "tollhouse-" + uid,
        "title": "Tollhouse: " + title,
        "description": description,
        "tags": ["tollhouse"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "annotations": {"list": [mark for source, mark in MARKS if source in repr(rows)]},
        "links": [
            {
                "type": "dashboards",
                "title": "Tollhouse",
                "tags": ["tollhouse"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "The other dashboards of Tollhouse",
                "url": "",
            },
            *links,
        ],
        "templating": {"list": list(variables)},
        "panels": laid_out(rows),
    }


def alerts_on_graphs():
    """Alerts of Tollhouse that fire, as marks on every graph."""
    return {
        "name": "Alerts",
        "datasource": PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Tollhouse.+",alertstate="firing"}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{service}}{{upstream}}",
        "tagKeys": "severity",
    }


def changes_on_graphs():
    """Changes of the gateway's configuration, as marks on every graph."""
    statement = "SELECT at AS time, concat(change, ' ', kind, ' ', name) AS text, kind AS tags FROM config.changes WHERE $__timeFilter(at) ORDER BY at"
    return {
        "name": "Configuration",
        "datasource": SQL,
        "enable": False,
        "hide": False,
        "iconColor": "blue",
        "target": sql(statement) | {"refId": "Anno"},
    }


# A dashboard has the marks of the data sources that its panels read.
MARKS = [("${prometheus}", alerts_on_graphs()), ("${tollhouse}", changes_on_graphs())]


def with_sources(board, value_of):
    """The dashboard with a variable for each data source that it names, which begins with what `value_of` says."""
    used = used_sources(board)
    variables = [
        {
            "name": source[0],
            "label": source[2],
            "description": source[3],
            "type": "datasource",
            "query": source[1],
            "regex": "",
            "refresh": 1,
            "hide": 2 if source[0] == "jaeger" else 0,
            "skipUrlSync": False,
            "includeAll": False,
            "multi": False,
            "options": [],
            "current": {"selected": True, "text": source[2], "value": value_of(source)},
        }
        for source in used
    ]
    return board | {"templating": {"list": variables + board["templating"]["list"]}}


def imported(board):
    """For Dashboards > New > Import, which asks for the data sources."""
    used = used_sources(board)
    kinds = sorted({one["type"] for one in board["panels"]} - {"row"})
    head = {
        "__inputs": [
            {
                "name": "DS_" + name.upper(),
                "label": label,
                "description": what,
                "type": "datasource",
                "pluginId": plugin,
                "pluginName": label,
            }
            for name, plugin, label, what, _ in used
        ],
        "__elements": {},
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.4.0"},
            *(
                {"type": "datasource", "id": plugin, "name": label, "version": "1.0.0"}
                for _, plugin, label, _, _ in used
            ),
            *({"type": "panel", "id": kind, "name": PANEL_NAMES[kind], "version": ""} for kind in kinds),
        ],
    }
    return head | with_sources(board, lambda source: "${DS_%s}" % source[0].upper())


def provisioned(board):
    """For a Grafana that has the data sources of `provisioning/datasources`."""
    return with_sources(board, lambda source: source[4])
