//! Who may see what, and who belongs to a cluster.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::support::client;
use super::support::origin::Origin;
use super::{Cluster, Rows, member};

const TOKEN: &str = "the-token-of-alice-0123456789";
const OPERATOR: &str = "the-token-of-operators-0123456789";

fn ask(house: &super::Tollhouse, token: &str, statement: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let headers =
        [("Content-Type", "text/plain"), ("Accept", "application/json"), ("Authorization", &*bearer)];
    let reply = client::exchange(house.addr("sql"), "POST", "/sql", &headers, statement.as_bytes()).unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

#[test]
fn a_caller_sees_its_own_rows_only() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let cluster = Cluster::start(&rows, 2, &json!({}));
    let tokens = json!([{ "name": "alice", "secret": TOKEN, "role": "portal", "consumer": "alice" },
        { "name": "operators", "secret": OPERATOR, "role": "operator" }]);
    let roles = json!({ "portal": {}, "operator": { "system": true } });
    let (rows, local) =
        rows.analytics(&[(&["analytics", "tokens"], tokens), (&["analytics", "roles"], roles)]);
    let (_rows, remote) = rows.analytics(&cluster.engine());
    for statement in [
        "SELECT consumer, count(*) AS n, sum(response_bytes) AS bytes FROM requests WHERE sequence >= 0 GROUP BY 1",
        "SELECT core, sequence, path FROM requests ORDER BY core, sequence",
        "SELECT consumer, sum(requests) AS n FROM traffic_1m GROUP BY 1",
        "SELECT count(*) AS n FROM requests a JOIN requests b USING (request_id)",
    ] {
        let (status, here) = ask(&local, TOKEN, statement);
        assert_eq!(status, 200, "{statement}: {here}");
        assert!(!here.as_array().unwrap().is_empty(), "{statement}");
        assert_eq!(ask(&remote, TOKEN, statement), (200, here.clone()), "{statement}");
        assert!(!here.to_string().contains("bob"), "{here}");
    }
    // A condition does not tell of rows of others by its error.
    let probe =
        "SELECT count(*) AS n FROM requests WHERE 1 / (CASE WHEN consumer = 'bob' THEN 0 ELSE 1 END) = 1";
    assert_eq!(ask(&remote, TOKEN, probe).0, 200);
    assert_eq!(ask(&remote, OPERATOR, probe).0, 400, "there are such rows");
    let engines = "SELECT DISTINCT engine FROM system.queries WHERE \"user\" = 'alice'";
    assert_eq!(ask(&remote, OPERATOR, engines).1, json!([{ "engine": "ballista" }]));
}

#[test]
fn listeners_that_others_reach_want_certificates() {
    let open = |role: &str, path: &[&str]| {
        let site = member(&json!({}), &[(path, json!("0.0.0.0:0"))]);
        let (code, said) = site.refused(role);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("cluster.tls") && said.contains("could have any plan run"), "{said}");
    };
    open("cluster scheduler", &["cluster", "scheduler", "listen"]);
}

/// A section `cluster` with a certificate of an authority of this name.
fn certified(folder: &Path, name: &str) -> Value {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let host =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let put = |kind: &str, text: String| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key, ca) =
        (put("host", host.pem()), put("key", key.serialize_pem()), put("authority", authority.pem()));
    json!({ "tls": { "cert_file": cert, "key_file": key, "ca_file": ca }, "connect_timeout_ms": 2_000 })
}

#[test]
fn whoever_has_no_certificate_of_the_authority_is_no_part_of_a_cluster() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (certified(folder.path(), "ours"), certified(folder.path(), "theirs"));
    let cluster = Cluster::start(&rows, 2, &ours);
    let grouped = "SELECT status, count(*) AS n FROM requests WHERE sequence >= 0 GROUP BY 1 ORDER BY 1";
    let (rows, local) = rows.analytics(&[]);
    let expected = local.sql(grouped);
    let with = |common: Value| [cluster.engine().as_slice(), &[(&["cluster"][..], common)]].concat();
    let (mut rows, remote) = rows.analytics(&with(ours));
    assert_eq!(super::ask(&remote, grouped), Ok((expected, "ballista".to_owned())));
    drop(remote);
    for stranger in [theirs, json!({})] {
        let plain = stranger == json!({});
        let (again, remote) = rows.analytics(&with(stranger));
        rows = again;
        let refused = remote.try_sql(grouped).unwrap_err();
        assert!(refused.contains("503") && refused.contains("cannot be reached"), "plain {plain}: {refused}");
    }
}
