//! What Grafana puts in the place of variables, in its page, and of macros, in its data source for PostgreSQL, before a
//! query leaves it.

/// A range of time, as RFC 3339 in UTC.
#[derive(Clone, Debug)]
pub struct Range {
    pub from: String,
    pub to: String,
}

/// What is picked in the variables: names with their values; `All` is the value of `allValue`.
pub type Picked<'a> = &'a [(&'a str, &'a [&'a str])];

/// As `All` is, where `allValue` is `.*`.
pub const ALL: &[&str] = &[".*"];

/// The text of values in a regular expression, of a variable that may have several.
fn alternatives(values: &[&str]) -> String {
    match values {
        [one] => (*one).to_owned(),
        many => format!("({})", many.join("|")),
    }
}

/// A PromQL query over an hour, of a Prometheus that scrapes every 15 seconds.
pub fn promql(query: &str, picked: Picked<'_>) -> String {
    let mut query = query.replace("$__rate_interval", "1m0s");
    for (name, values) in picked {
        query = query.replace(&format!("${name}"), &alternatives(values));
    }
    assert!(!query.contains('$'), "a variable that nobody knows: {query}");
    query
}

/// A statement with an interval of a minute, as the data source sends it. `with_time_bucket` is its switch for TimescaleDB.
pub fn sql(statement: &str, picked: Picked<'_>, range: &Range, with_time_bucket: bool) -> String {
    let mut statement = statement.replace("$__interval_ms", "60000").replace("$__interval", "1m");
    for (name, values) in picked {
        statement = statement.replace(&format!("${{{name}:regex}}"), &alternatives(values));
        statement = statement.replace(&format!("${name}"), values[0]);
    }
    let mut expanded = String::new();
    let mut rest = statement.as_str();
    while let Some((before, after)) = rest.split_once("$__") {
        let (name, after) = after.split_once('(').unwrap();
        let (arguments, after) = after.split_once(')').unwrap();
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        expanded.push_str(before);
        expanded.push_str(&self::macros(name, &arguments, range, with_time_bucket));
        rest = after;
    }
    expanded.push_str(rest);
    let is_variable = |rest: &str| rest.starts_with(|c: char| c == '{' || c == '_' || c.is_alphanumeric());
    assert!(!expanded.split('$').skip(1).any(is_variable), "a variable that nobody knows: {expanded}");
    expanded
}

fn macros(name: &str, arguments: &[&str], range: &Range, with_time_bucket: bool) -> String {
    let Range { from, to } = range;
    match (name, arguments) {
        ("timeFrom", [""]) => format!("'{from}'"),
        ("timeTo", [""]) => format!("'{to}'"),
        ("timeFilter", [column]) => format!("{column} BETWEEN '{from}' AND '{to}'"),
        ("timeGroupAlias", [column, "1m"]) if with_time_bucket => {
            format!("time_bucket('60.000s',{column}) AS \"time\"")
        }
        ("timeGroupAlias", [column, "1m"]) => {
            format!("floor(extract(epoch from {column})/60)*60 AS \"time\"")
        }
        _ => panic!("a macro that this test does not know: {name}({arguments:?})"),
    }
}
