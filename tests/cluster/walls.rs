//! Who may see what, and who belongs to a cluster.

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
