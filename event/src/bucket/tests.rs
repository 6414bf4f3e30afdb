use super::*;
use crate::layout::{FileEntry, Place};

fn folder_bucket(root: &Path) -> Bucket {
    let config = BucketConfig { url: Some(format!("file://{}", root.display())), ..Default::default() };
    Bucket::open(&validate(&config).unwrap().unwrap()).unwrap()
}

/// Runs a future of which every step is a step of the disk.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn list() -> List {
    let file = FileEntry {
        path: "requests/date=2026-01-01/hour=00/a.parquet".into(),
        rows: 3,
        bytes: 40,
        checksum: "00".into(),
        time_min_us: 1,
        time_max_us: 2,
        hot: 1,
        level: 0,
        place: Place::Both,
    };
    List { collector: "c1".into(), version: 1, files: vec![file], ..List::default() }
}

#[test]
fn an_object_is_created_once_and_replaced_as_often_as_one_likes() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder_bucket(root.path());
    wait(async {
        assert!(bucket.create("log/1.json", b"first".to_vec()).await.unwrap());
        assert!(!bucket.create("log/1.json", b"second".to_vec()).await.unwrap());
        assert_eq!(std::fs::read(root.path().join("log/1.json")).unwrap(), b"first");
        for text in [b"third".to_vec(), b"fourth".to_vec()] {
            bucket.replace("log/1.json", text).await.unwrap();
        }
        assert_eq!(std::fs::read(root.path().join("log/1.json")).unwrap(), b"fourth");
        assert_eq!(std::fs::read_dir(root.path().join("log")).unwrap().count(), 1, "no halves");
        std::fs::write(root.path().join("in the way"), "").unwrap();
        assert!(bucket.create("in the way/1.json", Vec::new()).await.is_err());
    });
}

#[test]
fn a_root_changes_only_in_the_place_of_the_one_that_was_read() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder_bucket(root.path());
    wait(async {
        let (empty, nothing) = bucket.root().await.unwrap();
        assert_eq!(empty, Root::default());
        let object = object_of("c1", "list-1.json");
        bucket.put_list(&object, &list()).await.unwrap();
        let mut next = empty;
        next.version = 1;
        next.collectors.insert("c1".into(), list().pointer("t1", object.clone(), 5));
        assert!(bucket.swap_root(&next, &nothing).await.unwrap());
        assert!(!bucket.swap_root(&next, &nothing).await.unwrap(), "somebody was there before");
        let (read, stamp) = bucket.root().await.unwrap();
        assert_eq!((read.clone(), read.collectors["c1"].rows, read.collectors["c1"].bytes), (next, 3, 40));
        assert!(bucket.newer_root(&stamp).await.unwrap().is_none());
        let other = Root { version: 2, ..read };
        assert!(bucket.swap_root(&other, &stamp).await.unwrap());
        assert!(!bucket.swap_root(&other, &stamp).await.unwrap());
        assert_eq!(bucket.newer_root(&stamp).await.unwrap().unwrap().0.version, 2);
        assert_eq!(bucket.list(&object).await.unwrap(), list());
    });
}

#[test]
fn damage_and_absence_have_names() {
    let root = tempfile::tempdir().unwrap();
    let bucket = folder_bucket(root.path());
    let missing = wait(bucket.list("collectors/x/list.json")).unwrap_err();
    assert_eq!(missing.cause, Cause::Missing);
    assert!(missing.to_string().contains("collectors/x/list.json"), "{missing}");
    std::fs::write(root.path().join(ROOT), "0000000000000000\n{}").unwrap();
    assert!(matches!(wait(bucket.root()).unwrap_err().cause, Cause::Damaged(_)));
    let gone =
        BucketConfig { url: Some(format!("file://{}/gone", root.path().display())), ..Default::default() };
    let error = Bucket::open(&validate(&gone).unwrap().unwrap()).unwrap_err().to_string();
    assert!(error.contains("create it, or mount"), "{error}");
}
