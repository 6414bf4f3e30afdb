//! Who is let in: SCRAM with the right and the wrong secret and with a user that there is not, TLS and plain text, and how
//! many.

use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use super::raw::{self, Raw};
use super::support::doors::{ALICE, ALL, ROWS, arrived, assert_no_open_door, guarded, http, traffic};
use super::support::eventually;
use super::support::origin::Origin;
use super::support::site::Site;
use super::{psql, said};

#[test]
fn only_who_knows_the_secret_of_its_name_is_let_in() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    traffic(&house);
    arrived(&house);
    let count = "SELECT count(*) FROM requests";
    let (good, stdout, stderr) = said(psql(&house, "grafana", ALL).args(["-c", count]));
    assert!(good, "{stderr}");
    assert_eq!(stdout, format!("{ROWS}\n"));
    let (good, stdout, _) = said(psql(&house, "alice", ALICE).args(["-c", count]));
    assert!(good && stdout == "3\n", "{stdout}");
    // A wrong secret, that of somebody else, none that there is, and nobody.
    let mut refusals = Vec::new();
    for (user, password) in
        [("grafana", "wrong-secret-0123456789"), ("grafana", ALICE), ("nobody", ALL), ("Grafana", ALL)]
    {
        let (good, _, stderr) = said(psql(&house, user, password).args(["-c", count]));
        assert!(!good, "{user}");
        assert!(stderr.contains("password authentication failed for user"), "{user}: {stderr}");
        refusals
            .push(stderr.replace(user, "USER").replace(&house.addr("postgres").port().to_string(), "PORT"));
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    // The method is not for the client to choose, and no secret passes in plain text.
    let mut plain = Raw::connect(house.addr("postgres"));
    plain.send(&raw::startup(&[("user", "grafana")]));
    assert_eq!(plain.reply().unwrap(), (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec()));
    plain.send(&raw::message(b'p', format!("{ALL}\0").as_bytes()));
    assert_eq!(raw::error(&plain.rest()).unwrap().0, "08P01");
    let mut early = Raw::connect(house.addr("postgres"));
    early.send(&raw::startup(&[("user", "grafana")]));
    early.send(&raw::query("SELECT 1"));
    let rest = early.rest();
    assert_eq!(raw::error(&rest).unwrap().0, "08P01");
    assert!(!rest.iter().any(|(kind, _)| *kind == b'D'));
    let users = http(
        &house,
        ALL,
        "SELECT DISTINCT \"user\" FROM system.queries WHERE protocol = 'postgresql' ORDER BY 1",
    );
    assert_eq!(users, [json!({ "user": "alice" }), json!({ "user": "grafana" })]);
    assert!(!house.log().contains(ALL) && !house.log().contains("wrong-secret"), "{}", house.log());
    assert!(house.log().contains("nobody"), "who was not let in is in the log");
}

#[test]
fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (site.folder().join("cert.pem"), site.folder().join("key.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let site = site.set(
        &["analytics", "postgres"],
        json!({ "listen": "127.0.0.1:0", "tls": { "cert_file": certificate, "key_file": key } }),
    );
    let house = site.run();
    let ask = |mode: &str, host: &str| {
        let mut command = psql(&house, "grafana", ALL);
        command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", &certificate);
        command.env("PGHOST", host).env("PGHOSTADDR", "127.0.0.1");
        said(command.args(["-c", "\\conninfo", "-c", "SELECT 1"]))
    };
    let (good, stdout, stderr) = ask("verify-full", "localhost");
    assert!(good && stdout.contains("TLSv1.3") && stdout.ends_with("1\n"), "{stdout}{stderr}");
    let (good, _, stderr) = ask("verify-full", "elsewhere.example");
    assert!(!good && stderr.contains("does not match host name"), "{stderr}");
    let (good, _, stderr) = ask("disable", "localhost");
    assert!(!good && stderr.contains("connections without TLS are refused"), "{stderr}");
    // What comes before the handshake is not taken for what comes in it.
    let mut early = Raw::connect(house.addr("postgres"));
    early.send(
        &[&8_u32.to_be_bytes()[..], &80_877_103_u32.to_be_bytes(), &raw::startup(&[("user", "x")])].concat(),
    );
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut early.stream, &mut first).unwrap();
    assert_eq!(&first, b"S");
    assert_eq!(raw::error(&early.rest()).unwrap().0, "08P01");
    // Without one it says so, and goes on in plain text.
    let plain = guarded(&origin);
    let plain = plain.run();
    let mut command = psql(&plain, "grafana", ALL);
    let (good, ..) = said(command.env("PGSSLMODE", "prefer").args(["-c", "SELECT 1"]));
    assert!(good);
    let mut command = psql(&plain, "grafana", ALL);
    let (good, _, stderr) = said(command.env("PGSSLMODE", "require").args(["-c", "SELECT 1"]));
    assert!(!good && stderr.contains("does not support SSL"), "{stderr}");
}

#[test]
fn configurations_that_would_show_everything_are_refused() {
    assert_no_open_door("postgres", "portals_max");
}

#[test]
fn so_many_are_let_in_and_who_says_nothing_is_not_waited_for() {
    let origin = Origin::start();
    let site = Site::new(origin.addr).set(
        &["analytics", "postgres"],
        json!({ "listen": "127.0.0.1:0", "connections_max": 3, "startup_timeout_ms": 300, "idle_timeout_ms": 1_000 }),
    );
    let house = site.start("analytics");
    let addr = house.addr("postgres");
    let began = Instant::now();
    let mut inside: Vec<Raw> = (0..3).map(|_| Raw::open(addr)).collect();
    let mut further = Raw::connect(addr);
    further.send(&raw::startup(&[("user", "raw")]));
    assert_eq!(raw::error(&further.rest()).unwrap().0, "53300");
    // Slowly, half of a start-up, and nothing.
    let mut half = Raw::connect(addr);
    half.send(&raw::startup(&[("user", "raw")])[..7]);
    assert!(half.rest().is_empty());
    assert!(Raw::connect(addr).rest().is_empty());
    assert!(began.elapsed() < Duration::from_secs(20));
    for one in &mut inside {
        assert_eq!(raw::error(&one.rest()).unwrap().0, "57P05", "silent for too long");
    }
    eventually("a place", || {
        let mut next = Raw::connect(addr);
        next.send(&raw::startup(&[("user", "raw")]));
        next.until_ready().map(|_| ()).map_err(|error| error.to_string())
    });
}

#[test]
fn other_protocols_are_told_off() {
    let origin = Origin::start();
    let site = guarded(&origin);
    let house = site.run();
    let addr = house.addr("postgres");
    let mut old = Raw::connect(addr);
    old.send(&[&8_u32.to_be_bytes()[..], &131_072_u32.to_be_bytes()].concat());
    assert_eq!(raw::error(&old.rest()).unwrap().0, "0A000");
    let mut replica = Raw::connect(addr);
    replica.send(&raw::startup(&[("user", "grafana"), ("replication", "database")]));
    assert_eq!(raw::error(&replica.rest()).unwrap().0, "0A000");
    let mut nameless = Raw::connect(addr);
    nameless.send(&raw::startup(&[("database", "x")]));
    assert_eq!(raw::error(&nameless.rest()).unwrap().0, "28000");
    let http =
        Command::new("curl").args(["-s", "-m", "30"]).arg(format!("http://{addr}/sql")).output().unwrap();
    assert!(!http.status.success());
}
