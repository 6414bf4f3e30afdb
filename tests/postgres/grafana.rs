//! Grafana's PostgreSQL data source: what it asks about what there is, and what its macros become.

use super::raw::Raw;
use super::support::doors::{ROWS, traffic};
use super::support::origin::Origin;
use super::support::site::{Site, Tollhouse};

fn house() -> (Origin, Site, Tollhouse) {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.run();
    traffic(&house);
    house.rows(ROWS);
    (origin, site, house)
}

/// Whether a table stands in the search path, as the data source asks.
const IN_PATH: &str = "quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE \
     trim(s[i]) END FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), \
     array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
     string_to_array(current_setting('search_path'),',') s)";

fn texts(raw: &mut Raw, sql: &str) -> Vec<Vec<String>> {
    let rows = raw.rows(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

#[test]
fn it_finds_version_tables_and_columns() {
    let (_origin, _site, house) = house();
    let mut raw = Raw::open(house.addr("postgres"));
    assert_eq!(
        texts(&mut raw, "SELECT current_setting('server_version_num')::int/100 as version"),
        [["1600"]]
    );
    assert!(texts(&mut raw, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").is_empty());
    let schemas = texts(
        &mut raw,
        "SELECT schema_name AS \"name\" FROM information_schema.schemata WHERE schema_name NOT IN \
         ('information_schema', 'pg_catalog', 'pg_toast') ORDER BY schema_name",
    );
    for schema in ["public", "system"] {
        assert!(schemas.contains(&vec![schema.to_owned()]), "{schemas:?}");
    }
    let tables = texts(
        &mut raw,
        &format!(
            "SELECT CASE WHEN {IN_PATH} THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || \
             quote_ident(table_name) END AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) \
             NOT IN ('information_schema', 'pg_catalog') ORDER BY CASE WHEN {IN_PATH} THEN 0 ELSE 1 END, 1"
        ),
    );
    let tables: Vec<&str> = tables.iter().map(|row| row[0].as_str()).collect();
    assert!(tables.contains(&"requests") && tables.contains(&"system.queries"), "{tables:?}");
    assert!(
        tables.iter().position(|name| *name == "services")
            < tables.iter().position(|name| name.contains('.'))
    );
    let older = texts(
        &mut raw,
        &format!(
            "select quote_ident(table_name) as \"table\" from information_schema.tables where {IN_PATH}"
        ),
    );
    assert!(older.iter().any(|row| row[0] == "requests") && !older.iter().any(|row| row[0] == "queries"));
    for (table, column, kind) in [
        ("requests", "time", "timestamp with time zone"),
        ("requests", "status", "integer"),
        ("traffic_1m", "requests", "numeric"),
        ("system.queries", "started", "timestamp with time zone"),
    ] {
        let columns = texts(
            &mut raw,
            &format!(
                "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns \
                 WHERE CASE WHEN array_length(parse_ident('{table}'),1) = 2 THEN quote_ident(table_schema) = \
                 (parse_ident('{table}'))[1] AND quote_ident(table_name) = (parse_ident('{table}'))[2] ELSE \
                 quote_ident(table_name) = '{table}' AND {IN_PATH} END"
            ),
        );
        assert!(columns.contains(&vec![column.to_owned(), kind.to_owned()]), "{table}: {columns:?}");
    }
}

#[test]
fn its_macros_run() {
    let (_origin, _site, house) = house();
    let mut raw = Raw::open(house.addr("postgres"));
    // $__timeFilter(time), $__timeGroup(time,'5m',0), $__timeGroupAlias(time,'5m'), $__unixEpochFilter(...)
    let filter = "time BETWEEN '2020-01-01T00:00:00Z' AND '2120-01-01T00:00:00.5Z'";
    let group = "floor(extract(epoch from time)/300)*300";
    for (sql, count) in [
        (format!("SELECT time, status FROM requests WHERE {filter} ORDER BY time"), 8),
        (format!("SELECT {group} AS \"time\", count(*) AS value FROM requests WHERE {filter} GROUP BY 1 ORDER BY 1"), 1),
        (
            format!(
                "SELECT {group} AS \"time\", service AS metric, count(*) FROM requests WHERE {filter} \
                 GROUP BY {group}, service ORDER BY {group}"
            ),
            3,
        ),
        (format!("SELECT time_bucket('300.000s',time) AS \"time\", count(*) FROM requests WHERE {filter} GROUP BY 1"), 1),
        (
            "SELECT count(*) FROM requests WHERE extract(epoch from time) >= 1577836800 AND extract(epoch from time) \
             <= 4733510400"
                .to_owned(),
            1,
        ),
        ("SELECT extract(epoch from time) AS time_sec, 'x' AS text, '' AS tags FROM requests".to_owned(), 8),
        ("SELECT DISTINCT consumer FROM requests WHERE consumer IS NOT NULL".to_owned(), 2),
    ] {
        let rows = texts(&mut raw, &sql);
        // An interval of time may end between two of the requests.
        let one_more = sql.contains("300");
        assert!(rows.len() == count || (one_more && rows.len() > count && rows.len() <= 2 * count), "{sql}: {rows:?}");
    }
    let rows = texts(
        &mut raw,
        "SELECT time_bucket('1 hour', TIMESTAMP '2026-11-30 01:23:45'), time_bucket(INTERVAL '15 minutes', \
         TIMESTAMP '2026-11-30 01:23:45', TIMESTAMP '2026-01-01 00:05:00'), time_bucket('1 month', DATE '2026-11-30')",
    );
    assert_eq!(rows, [["2026-11-30 01:00:00", "2026-11-30 01:20:00", "2026-11-01 00:00:00"]]);
}
