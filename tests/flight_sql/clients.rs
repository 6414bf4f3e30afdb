//! ADBC and the JDBC driver: the rows of HTTP in every type, parameters, what there is, refusals, and how a query is ended.

use std::process::Command;

use super::adbc;
use super::support::doors::{ROWS, house};
use super::support::tool::{find, output};

#[test]
fn adbc_reads_what_http_says() {
    let (_origin, _site, house) = house();
    adbc(&house, "rows", &[]);
}

#[test]
fn what_writes_is_refused_and_said_so() {
    let (_origin, _site, house) = house();
    adbc(&house, "refusals", &[]);
    assert_eq!(house.number("SELECT count(*) AS n FROM requests"), ROWS);
}

#[test]
fn queries_are_cancelled_by_the_driver_and_by_the_protocol() {
    let (_origin, _site, house) = house();
    adbc(&house, "cancels", &[]);
}

#[test]
fn bytes_that_no_driver_sends_do_no_harm() {
    let (_origin, _site, house) = house();
    adbc(&house, "calls", &[]);
    assert_eq!(house.number("SELECT 1 AS n"), 1);
}

#[test]
fn the_jdbc_driver_reads_what_http_says() {
    let (_origin, _site, house) = house();
    let driver = find("TESTS_FLIGHT_JDBC", "flight-sql-jdbc-driver-18.3.0.jar");
    let mut command = Command::new("java");
    command.arg("--add-opens=java.base/java.nio=ALL-UNNAMED").arg("-cp").arg(driver);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flight_sql/Clients.java"));
    command.arg(format!("jdbc:arrow-flight-sql://{}?useEncryption=false", house.addr("flight")));
    let said = output(&mut command);
    assert!(said.trim().ends_with("done"), "{said}");
    let rows = house.sql(
        "SELECT CAST(date_part('epoch', time) * 1000000 AS BIGINT) AS us, method, path, status, consumer, duration_us, \
         request_bytes, sampled, trace_id FROM requests ORDER BY time, sequence",
    );
    let expected: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.as_object().unwrap().values().map(|value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            });
            format!("row\t{}", cells.collect::<Vec<_>>().join("\t"))
        })
        .collect();
    let found: Vec<&str> = said.lines().filter(|line| line.starts_with("row\t")).collect();
    assert_eq!(found, expected);
}
