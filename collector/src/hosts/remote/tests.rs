//! A receiver without its listener.

use arrow::array::UInt64Array;

use super::*;

type Told = oneshot::Receiver<Result<(), Refusal>>;

/// A receiver whose first session of `i` has begun.
fn remote(folder: &DataFolder) -> (Remote, mpsc::Sender<Delivery>) {
    let (queue, deliveries) = mpsc::channel(16);
    let config = super::super::ReceiveConfig::default();
    let mut remote = Remote::new(folder, &config, deliveries, Arc::default()).unwrap();
    remote.begin(begin(1, &[]), &Watermarks::new()).unwrap();
    (remote, queue)
}

fn begin(session: u64, revoke: &[(u16, super::super::wire::Span)]) -> Begin {
    let (instance, node) = ("i".to_owned(), "edge".to_owned());
    Begin { version: VERSION, instance, session, node, revoke: revoke.iter().copied().collect() }
}

/// Rows of lane 0.
fn rows(session: u64, life_us: i64, sequences: &[u64]) -> (Delivery, Told) {
    let after = Position { sequence: *sequences.last().unwrap(), life_us, ordinal: 1 };
    let column: arrow::array::ArrayRef = Arc::new(UInt64Array::from(sequences.to_vec()));
    let batch = RecordBatch::try_from_iter([("sequence", column)]).unwrap();
    let (cores, node) = (vec![0; sequences.len()], "edge".to_owned());
    let origins = Origins { cores, sequences: sequences.to_vec(), node };
    let (reply, told) = oneshot::channel();
    let lanes = [(0, Step { before: None, after })].into();
    let arrived = Arrived { instance: "i".to_owned(), session, lanes, origins, batch, reply };
    (Delivery::Batch(Box::new(arrived)), told)
}

/// Gives deliveries to intake, which stores all that is new; the numbers of rows.
fn store(
    remote: &mut Remote,
    queue: &mpsc::Sender<Delivery>,
    marks: &mut Watermarks,
    rows: Delivery,
) -> usize {
    queue.try_send(rows).unwrap();
    let mut stored = 0;
    while let Some(fresh) = remote.take(marks) {
        stored += fresh.batch.num_rows();
        marks.extend(fresh.marks);
    }
    stored
}

#[test]
fn rows_that_are_here_are_left_out_and_all_are_acknowledged_once_durable() {
    let root = tempfile::tempdir().unwrap();
    let (mut remote, queue) = remote(&DataFolder::open(root.path()).unwrap());
    let mut marks = Watermarks::new();
    let (first, mut told_first) = rows(1, 1, &[1, 2, 3]);
    assert_eq!(store(&mut remote, &queue, &mut marks, first), 3);
    let (again, mut told_again) = rows(1, 1, &[2, 3, 4]);
    assert_eq!(store(&mut remote, &queue, &mut marks, again), 1);
    remote.acknowledge(&Watermarks::new());
    assert!(told_first.try_recv().is_err(), "nothing is durable");
    remote.acknowledge(&marks);
    assert!(told_first.try_recv().unwrap().is_ok() && told_again.try_recv().unwrap().is_ok());
    assert_eq!(remote.ledger()[0].stored, 4);
}

#[test]
fn behind_a_refused_batch_nothing_of_its_session_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let (mut remote, queue) = remote(&DataFolder::open(root.path()).unwrap());
    let mut marks = Watermarks::new();
    let (first, _told) = rows(1, 1, &[1]);
    assert_eq!(store(&mut remote, &queue, &mut marks, first), 1);
    // The same segment, and another life of a gateway: a copied data folder.
    let (twin, mut told) = rows(1, 2, &[2]);
    assert_eq!(store(&mut remote, &queue, &mut marks, twin), 0);
    assert!(matches!(told.try_recv().unwrap(), Err(Refusal::Twin(0))));
    let (next, mut told) = rows(1, 1, &[3]);
    assert_eq!(store(&mut remote, &queue, &mut marks, next), 0);
    assert!(matches!(told.try_recv().unwrap(), Err(Refusal::Broken(1))));
    remote.begin(begin(2, &[]), &marks).unwrap();
    let (old, mut told) = rows(1, 1, &[2]);
    assert_eq!(store(&mut remote, &queue, &mut marks, old), 0);
    assert!(matches!(told.try_recv().unwrap(), Err(Refusal::Over { asked: 1, newest: 2 })));
    let (again, _told) = rows(2, 1, &[2, 3]);
    assert_eq!(store(&mut remote, &queue, &mut marks, again), 2);
}

#[test]
fn what_is_taken_back_is_what_is_here() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (mut remote, queue) = remote(&folder);
    let mut marks = Watermarks::new();
    let (first, _told) = rows(1, 1, &[1, 2, 3, 4]);
    assert_eq!(store(&mut remote, &queue, &mut marks, first), 4);
    let span = super::super::wire::Span { after: Some(2), through: 9 };
    let begun = remote.begin(begin(2, &[(0, span), (1, span)]), &marks).unwrap();
    assert_eq!(begun.lanes, [(0, 4)].into());
    let orders = event::erasure::waiting(&folder).unwrap();
    let orders: Vec<_> = orders.iter().map(|path| event::erasure::read(path).unwrap().unwrap()).collect();
    assert_eq!(orders.len(), 1);
    let range = LaneRange { node: "edge".into(), core: 0, first: 3, last: 4 };
    assert_eq!(orders[0].subject, Subject::Lane(range));
    assert!(remote.begin(begin(2, &[]), &marks).is_err(), "a session begins once");
}

#[test]
fn of_a_node_that_two_folders_are_nothing_is_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(root.path()).unwrap();
    let (mut remote, queue) = remote(&folder);
    let mut marks = Watermarks::new();
    let (first, _told) = rows(1, 1, &[1, 2, 3, 4]);
    assert_eq!(store(&mut remote, &queue, &mut marks, first), 4);
    let span = super::super::wire::Span { after: None, through: 9 };
    let orders = || event::erasure::waiting(&folder).unwrap().len();
    // This host's own rows have the name too.
    let own = Position { sequence: 3, life_us: 1, ordinal: 3 };
    let both: Watermarks = marks.clone().into_iter().chain([("edge/0".to_owned(), own)]).collect();
    remote.begin(begin(2, &[(0, span)]), &both).unwrap();
    assert_eq!(orders(), 0);
    // A third has sent rows of it before the receiver was started again, and says nothing now.
    remote.nodes.note("edge", "j", &[("0@i".to_owned(), own), ("0@j".to_owned(), own)].into()).unwrap();
    drop(remote);
    let (mut remote, _queue) = super::tests::remote(&folder);
    remote.begin(begin(2, &[(0, span)]), &marks).unwrap();
    assert_eq!(orders(), 0);
}

#[test]
fn a_mark_of_another_host_is_told_from_one_of_this_host() {
    let of = key(0, "0123456789abcdef0123456789abcdef");
    assert!(is_foreign(&of) && own_node(&of).is_none());
    for (own, node) in [("edge/0", Some("edge")), ("a/b/7", Some("a/b")), ("0@x/0", Some("0@x"))] {
        assert!(!is_foreign(own), "{own}");
        assert_eq!(own_node(own), node);
    }
    assert!(!super::super::wire::is_instance("x/0") && !super::super::wire::is_instance(&"F".repeat(32)));
}
