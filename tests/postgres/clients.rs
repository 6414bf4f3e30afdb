//! psycopg and the JDBC driver, each with a program of its own that ends well or says why not.

use std::process::Command;

use super::support::doors::house;
use super::support::tool::{find, output, python};

#[test]
fn psycopg_reads_what_http_says() {
    let (_origin, _site, house) = house();
    let (addr, sql) = (house.addr("postgres"), house.addr("sql"));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/clients.py");
    let mut command = Command::new(python());
    command
        .arg(program)
        .arg(addr.ip().to_string())
        .arg(addr.port().to_string())
        .arg(format!("http://{sql}/sql"));
    let said = output(&mut command);
    assert!(said.trim().ends_with("cancel"), "{said}");
}

#[test]
fn the_jdbc_driver_reads_what_http_says() {
    let (_origin, _site, house) = house();
    let driver = find("TESTS_JDBC", "postgresql-42.7.14.jar");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/Clients.java");
    let mut command = Command::new("java");
    command.arg("-cp").arg(driver).arg(program);
    command.arg(format!("jdbc:postgresql://{}/tollhouse?sslmode=disable", house.addr("postgres")));
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
