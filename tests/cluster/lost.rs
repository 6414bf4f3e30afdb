//! Parts of a cluster that go away.

use serde_json::{Value, json};

use super::support::eventually;
use super::support::origin::Origin;
use super::{Cluster, Rows, patient};

/// Some seconds of work for two executors with a thread each, after a step that is done at once.
const LONG: &str = "SELECT a.service, count(*) AS n FROM (SELECT service, sequence FROM requests) a \
     CROSS JOIN (SELECT sequence FROM requests) b CROSS JOIN (SELECT sequence FROM requests) c \
     CROSS JOIN (SELECT sequence FROM requests ORDER BY core, sequence LIMIT 12) d \
     WHERE (a.sequence * b.sequence + c.sequence * d.sequence) % 7 = 3 GROUP BY a.service ORDER BY a.service";

#[test]
fn an_executor_that_is_killed_while_it_computes_changes_no_answer() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let mut cluster = Cluster::start(&rows, 2, &json!({}));
    let (rows, local) = rows.analytics(&[]);
    let expected = patient(&local, LONG).join().unwrap().unwrap();
    let (_rows, remote) = rows.analytics(&cluster.engine());
    let answer = patient(&remote, LONG);
    // It has finished a step, of which others need what it left, and works on the next one.
    let (site, victim) = cluster.executors.remove(0);
    let left = site.data().join("state/cluster/left");
    eventually("a step to be finished", || match std::fs::read_dir(&left).unwrap().next() {
        Some(_) => Ok(()),
        None => Err(format!("nothing is left in {}, {}", left.display(), answer.is_finished())),
    });
    assert!(!answer.is_finished(), "it was too quick to be killed meanwhile");
    victim.kill9();
    assert_eq!(answer.join().unwrap(), Ok(expected.clone()));
    // And the next one does without it.
    assert_eq!(
        patient(&remote, "SELECT count(*) AS n FROM requests WHERE sequence >= 0").join().unwrap(),
        Ok(json!([{ "n": super::UPLOADED + super::HOT }]))
    );
}

#[test]
fn a_cluster_that_is_not_there_is_said_to_be_away() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let cluster = Cluster::start(&rows, 0, &json!({}));
    let (rows, remote) = rows.analytics(&cluster.engine());
    let count = "SELECT count(*) AS n FROM requests WHERE sequence >= 0";
    let refused = remote.try_sql(count).unwrap_err();
    assert!(refused.contains("503") && refused.contains("tollhouse cluster executor"), "{refused}");
    // One comes: nobody has to tell anybody.
    let (_site, executor) = cluster.executor(&rows, &json!({}));
    eventually("an answer", || remote.try_sql(count));
    assert_eq!(remote.number(count), super::UPLOADED + super::HOT);
    assert!(executor.terminate().success());
    let refused = eventually("its end to be known", || match remote.try_sql(count) {
        Err(refused) => Ok(refused),
        Ok(rows) => Err(format!("{rows:?}")),
    });
    assert!(refused.contains("503"), "{refused}");
    let Cluster { scheduler, .. } = cluster;
    scheduler.kill9();
    let refused = remote.try_sql(count).unwrap_err();
    assert!(refused.contains("503") && refused.contains("tollhouse cluster scheduler"), "{refused}");
    // What needs no cluster goes on.
    assert_eq!(remote.sql("SELECT 1 AS one"), [json!({ "one": 1 })]);
    assert!(!remote.sql("SELECT * FROM system.files").is_empty());
}

/// Processor time of a process, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_query_that_is_cut_off_ends_on_executors_too() {
    let origin = Origin::start();
    let rows = Rows::new(&origin);
    let cluster = Cluster::start(&rows, 1, &json!({}));
    let (site, executor) = &cluster.executors[0];
    let engine = cluster.engine();
    let cut: [(&[&str], Value); 1] = [(&["analytics", "timeout_ms"], json!(2_000))];
    let (_rows, remote) = rows.analytics(&[engine.as_slice(), &cut].concat());
    // Far more than what one thread does in the seconds that are looked at below.
    let longer = LONG.replace("LIMIT 12", "LIMIT 80");
    let refused = patient(&remote, &longer).join().unwrap().unwrap_err();
    assert!(refused.contains("longer than 2000 ms"), "{refused}");
    let before = ticks(executor.pid());
    // Its one thread is free again, and what it left is gone.
    let count = "SELECT count(*) AS n FROM requests WHERE sequence >= 0";
    eventually("another answer", || remote.try_sql(count));
    let left = site.data().join("state/cluster/left");
    eventually("the rest to be deleted", || match std::fs::read_dir(&left).unwrap().count() {
        0 => Ok(()),
        some => Err(format!("{some} of {}", executor.pid())),
    });
    let spent = ticks(executor.pid()) - before;
    assert!(spent < 500, "{spent} hundredths of a second of processor: it went on");
}
