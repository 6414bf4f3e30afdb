use std::fs;

use event::layout::Place;

use super::action::{Action, Protocol};
use super::*;
use crate::Flags;

const HOUR_US: i64 = 3_600_000_000;

/// A table of one collector, and the folder that its log is in.
struct Site {
    folder: tempfile::TempDir,
    files: BTreeMap<String, FileEntry>,
    prefix: String,
}

impl Site {
    fn new(prefix: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, files: BTreeMap::new(), prefix: prefix.to_owned() }
    }

    fn bucket(&self) -> Bucket {
        Bucket::of_folder(self.folder.path()).unwrap()
    }

    /// A log as a start finds it.
    fn log(&self, checkpoint_commits: u32) -> Log {
        let config = DeltaConfig { checkpoint_commits, ..DeltaConfig::default() };
        Log::new(self.bucket(), self.prefix.clone(), config, 300, Arc::default())
    }

    fn put(&mut self, hour: u32, name: &str, rows: u64, level: u8) {
        let path = format!("{}date=1970-01-01/hour={hour:02}/{name}.parquet", self.prefix);
        let from_us = i64::from(hour) * HOUR_US;
        let file = FileEntry {
            path: path.clone(),
            rows,
            bytes: rows * 10,
            checksum: String::new(),
            time_min_us: from_us + 1_500,
            time_max_us: from_us + 2_001,
            hot: 1,
            level,
            place: Place::Local,
        };
        self.files.insert(path, file);
    }

    fn drop_hour(&mut self, hour: u32) {
        self.files.retain(|path, _| !path.contains(&format!("hour={hour:02}")));
    }

    async fn state(&self) -> State {
        file::read(&self.bucket()).await.unwrap()
    }

    /// What the log says, as paths with rows.
    async fn said(&self) -> BTreeMap<String, u64> {
        let files = self.state().await.files.into_values();
        files.map(|add| (add.path.clone(), add.rows().unwrap())).collect()
    }

    fn held(&self) -> BTreeMap<String, u64> {
        self.files.iter().map(|(path, file)| (path.clone(), file.rows)).collect()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("_delta_log").join(name)
    }

    fn commit(&self, version: u64) -> (String, Vec<Action>) {
        let text = fs::read_to_string(self.path(&format!("{version:020}.json"))).unwrap();
        let info = serde_json::from_str::<serde_json::Value>(text.lines().next().unwrap()).unwrap();
        let operation = info["commitInfo"]["operation"].as_str().unwrap().to_owned();
        (operation, action::parse(text.as_bytes()).unwrap())
    }
}

/// Operation of a commit, and whether each of its files changes what the table says.
fn changes((operation, actions): &(String, Vec<Action>)) -> (String, Vec<(bool, bool)>) {
    let of = |action: &Action| match action {
        Action::Add(add) => Some((true, add.data_change)),
        Action::Remove(remove) => Some((false, remove.data_change)),
        _ => None,
    };
    (operation.clone(), actions.iter().filter_map(of).collect())
}

#[tokio::test]
async fn what_is_new_what_was_merged_and_what_is_gone_are_told_apart() {
    let mut site = Site::new("");
    let mut log = site.log(100);
    site.put(7, "a", 10, 0);
    site.put(7, "b", 5, 0);
    assert!(log.make_equal(&site.files).await);
    let first = site.commit(0);
    assert_eq!(changes(&first), ("WRITE".into(), vec![(true, true); 2]));
    let first = first.1;
    assert!(first.contains(&Action::Protocol(Protocol::ours())));
    let Some(Action::Add(add)) = first.iter().find(|action| matches!(action, Action::Add(_))) else {
        panic!()
    };
    assert_eq!(add.partition_values["date"].as_deref(), Some("1970-01-01"));
    assert_eq!(add.partition_values["hour"].as_deref(), Some("7"));
    assert_eq!(
        add.stats.as_deref(),
        Some(
            r#"{"numRecords":10,"minValues":{"time":"1970-01-01T07:00:00.001Z"},"maxValues":{"time":"1970-01-01T07:00:00.003Z"}}"#
        )
    );
    // Nothing new is no commit, also for who reads the log first.
    assert!(log.make_equal(&site.files).await && site.log(100).make_equal(&site.files).await);
    assert!(!site.path("00000000000000000001.json").exists());
    // A merge: the same rows. What was sealed beside it comes before, in a commit of its own.
    site.drop_hour(7);
    site.put(7, "merged", 15, 1);
    site.put(7, "c", 1, 0);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(changes(&site.commit(1)), ("WRITE".into(), vec![(true, true)]));
    assert_eq!(
        changes(&site.commit(2)),
        ("OPTIMIZE".into(), vec![(false, false), (false, false), (true, false)])
    );
    // An erasure: fewer rows, in one commit, also of a file that nobody had merged.
    site.drop_hour(7);
    site.put(7, "erased-1", 14, 1);
    site.put(7, "erased-2", 0, 0);
    site.put(8, "d", 1, 0);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(changes(&site.commit(3)), ("WRITE".into(), vec![(true, true)]));
    assert_eq!(
        changes(&site.commit(4)),
        ("DELETE".into(), vec![(false, true), (false, true), (true, true), (true, true)])
    );
    // A merge of what the log did not know yet.
    site.drop_hour(8);
    site.put(8, "merged", 2, 1);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(changes(&site.commit(5)), ("DELETE".into(), vec![(false, true), (true, true)]));
    site.drop_hour(7);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(changes(&site.commit(6)), ("DELETE".into(), vec![(false, true); 2]));
    assert_eq!(site.said().await, site.held());
    assert_eq!(log.account.counts().commits, 7);
}

#[tokio::test]
async fn a_checkpoint_says_what_all_commits_say_and_what_is_before_it_may_go() {
    let mut site = Site::new("");
    let mut log = site.log(4);
    for hour in 0..11 {
        site.put(hour, "a", 1, 0);
        if hour > 2 {
            site.drop_hour(hour - 2);
        }
        assert!(log.make_equal(&site.files).await);
    }
    let whole = site.state().await;
    assert_eq!(whole.version, Some(18), "from the fourth hour on each has two commits");
    let last = fs::read_to_string(site.path("_last_checkpoint")).unwrap();
    // Protocol, columns, the three files of then, and the seven that had just been removed.
    assert_eq!(last, r#"{"version":16,"size":12}"#);
    // From the first commit on it is the same, but for what is said once.
    for version in [4, 8, 12, 16] {
        fs::rename(
            site.path(&format!("{version:020}.checkpoint.parquet")),
            site.folder.path().join(version.to_string()),
        )
        .unwrap();
    }
    let mut replayed = site.state().await;
    replayed.files.values_mut().for_each(|add| add.data_change = false);
    let mut sum = whole.clone();
    sum.files.values_mut().for_each(|add| add.data_change = false);
    replayed
        .removed
        .values_mut()
        .chain(sum.removed.values_mut())
        .for_each(|remove| remove.data_change = false);
    assert_eq!(replayed, sum);
    for version in [4, 8, 12, 16] {
        fs::rename(
            site.folder.path().join(version.to_string()),
            site.path(&format!("{version:020}.checkpoint.parquet")),
        )
        .unwrap();
    }
    // Nothing is old yet; then all is, and what is left says the same.
    file::clean(&site.bucket(), crate::now_us() / 1_000 - 60_000).await.unwrap();
    assert!(site.path("00000000000000000000.json").exists());
    file::clean(&site.bucket(), crate::now_us() / 1_000 + 60_000).await.unwrap();
    assert!(!site.path("00000000000000000015.json").exists());
    assert!(site.path("00000000000000000016.json").exists());
    assert_eq!(site.state().await, whole);
    assert!(site.log(4).make_equal(&site.files).await);
    assert_eq!(site.state().await, whole);
}

#[tokio::test]
async fn what_is_removed_is_forgotten_after_its_grace() {
    let mut site = Site::new("");
    let mut log = site.log(100);
    for hour in 0..3 {
        site.files.clear();
        site.put(hour, "a", 1, 0);
        assert!(log.make_equal(&site.files).await);
    }
    let removed = &log.known.as_ref().unwrap().removed;
    assert_eq!(removed.len(), 2);
    let last_ms = removed.values().map(|remove| remove.deletion_timestamp).max().unwrap();
    while crate::now_us() / 1_000 <= last_ms {
        std::hint::spin_loop();
    }
    log.grace_s = 0;
    assert!(log.make_equal(&site.files).await);
    assert_eq!(log.known.as_ref().unwrap().removed.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_collectors_write_one_log() {
    let shared = tempfile::tempdir().unwrap();
    let collectors = (0..6).map(|collector| {
        let bucket = Bucket::of_folder(shared.path()).unwrap();
        tokio::spawn(async move {
            let mut site = Site::new(&format!("collectors/{collector}/requests/"));
            let config = DeltaConfig { checkpoint_commits: 7, ..DeltaConfig::default() };
            let mut log = Log::new(bucket, site.prefix.clone(), config, 300, Arc::default());
            for hour in 0..12 {
                site.put(hour, "a", 1, 0);
                if hour > 3 {
                    site.drop_hour(hour - 3);
                }
                assert!(log.make_equal(&site.files).await);
            }
            (site.held(), log.account.counts().commits)
        })
    });
    let (mut held, mut commits) = (BTreeMap::new(), 0);
    for collector in collectors.collect::<Vec<_>>() {
        let (files, made) = collector.await.unwrap();
        held.extend(files);
        commits += made;
    }
    let state = file::read(&Bucket::of_folder(shared.path()).unwrap()).await.unwrap();
    let said: BTreeMap<String, u64> =
        state.files.values().map(|add| (add.path.clone(), add.rows().unwrap())).collect();
    assert_eq!(said, held);
    assert_eq!(state.version, Some(commits - 1), "a commit is of one of them");
    assert_eq!(commits, 6 * (12 + 8));
}

#[tokio::test]
async fn damage_is_named_and_a_log_that_was_removed_comes_back() {
    let mut site = Site::new("");
    let mut log = site.log(2);
    for hour in 0..4 {
        site.put(hour, "a", 1, 0);
        assert!(log.make_equal(&site.files).await);
    }
    let said = async |site: &Site| file::read(&site.bucket()).await.unwrap_err().to_string();
    let last = site.path("00000000000000000003.json");
    let whole = fs::read(&last).unwrap();
    for half in [&b""[..], &whole[..whole.len() / 2]] {
        fs::write(&last, half).unwrap();
        let error = said(&site).await;
        assert!(error.starts_with("_delta_log/00000000000000000003.json is damaged"), "{error}");
        assert!(last.exists());
    }
    fs::write(&last, whole).unwrap();
    let sum = site.path("00000000000000000002.checkpoint.parquet");
    let whole = fs::read(&sum).unwrap();
    fs::write(&sum, b"PAR1").unwrap();
    assert!(said(&site).await.contains("checkpoint.parquet is damaged"));
    fs::write(&sum, whole).unwrap();
    fs::remove_file(&sum).unwrap();
    fs::remove_file(site.path("00000000000000000001.json")).unwrap();
    assert!(said(&site).await.contains("commit 1 is missing"));
    let mut other = site.log(2);
    assert!(!other.make_equal(&site.files).await);
    assert_eq!(other.account.counts().failures, 1);
    // Not at once again.
    assert!(!other.make_equal(&site.files).await);
    assert_eq!(other.account.counts().failures, 1);
    // What is said to do helps, also beside a log that goes on.
    fs::remove_dir_all(site.path("")).unwrap();
    site.put(4, "a", 1, 0);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(site.said().await, site.held());
    assert!(site.path("00000000000000000000.json").exists());
}

#[tokio::test]
async fn who_was_idle_for_long_goes_on_behind_the_last_commit() {
    let shared = tempfile::tempdir().unwrap();
    let bucket = || Bucket::of_folder(shared.path()).unwrap();
    let mut sites = ["collectors/a/requests/", "collectors/b/requests/"].map(Site::new);
    let config = DeltaConfig { checkpoint_commits: 2, ..DeltaConfig::default() };
    let mut logs = sites
        .each_ref()
        .map(|site| Log::new(bucket(), site.prefix.clone(), config.clone(), 300, Arc::default()));
    sites[0].put(0, "a", 1, 0);
    assert!(logs[0].make_equal(&sites[0].files).await);
    for hour in 0..6 {
        sites[1].put(hour, "b", 1, 0);
        assert!(logs[1].make_equal(&sites[1].files).await);
    }
    file::clean(&bucket(), i64::MAX).await.unwrap();
    sites[0].put(1, "a", 1, 0);
    assert!(logs[0].make_equal(&sites[0].files).await);
    let state = file::read(&bucket()).await.unwrap();
    let held: Vec<&String> = sites[0].files.keys().chain(sites[1].files.keys()).collect();
    assert_eq!((state.version, state.files.keys().collect::<Vec<_>>()), (Some(7), held));
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    for theirs in [
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
        "{\"commitInfo\":{\"operation\":\"WRITE\",\"operationParameters\":{\"mode\":{\"a\":1}}}}\n\
         {\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":[\"deletionVectors\"]}}\n\
         {\"txn\":{\"appId\":\"stream\",\"version\":3}}\n\
         {\"remove\":{\"path\":\"a.parquet\",\"dataChange\":true}}",
    ] {
        let mut site = Site::new("");
        site.put(1, "a", 1, 0);
        let path = site.path("00000000000000000000.json");
        fs::create_dir(site.path("")).unwrap();
        fs::write(&path, theirs).unwrap();
        let error = file::read(&site.bucket()).await.unwrap_err();
        assert!(matches!(error, DeltaError::Foreign), "{error}");
        assert!(!site.log(2).make_equal(&site.files).await);
        assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
        assert_eq!(fs::read_dir(site.path("")).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_file_that_has_its_name_anew_is_told_anew() {
    let mut site = Site::new("");
    let mut log = site.log(100);
    site.put(1, "a", 1, 0);
    assert!(log.make_equal(&site.files).await);
    site.put(1, "a", 2, 0);
    assert!(log.make_equal(&site.files).await);
    assert_eq!(site.said().await, site.held());
    assert_eq!(log.account.counts().commits, 2);
}

#[tokio::test]
async fn columns_of_a_newer_version_stay_and_those_of_this_one_come() {
    let mut site = Site::new("");
    site.put(1, "a", 1, 0);
    assert!(site.log(100).make_equal(&site.files).await);
    let path = site.path("00000000000000000000.json");
    let text = fs::read_to_string(&path).unwrap();
    // As a version wrote it that knows one column more.
    let more = text.replace(
        r#"{\"name\":\"hour\""#,
        r#"{\"name\":\"later\",\"type\":\"string\",\"nullable\":true,\"metadata\":{}},{\"name\":\"hour\""#,
    );
    assert_ne!(more, text);
    fs::write(&path, &more).unwrap();
    assert!(site.log(100).make_equal(&site.files).await);
    assert!(!site.path("00000000000000000001.json").exists());
    // As one wrote it that knows one column less.
    let less = text.replace(
        r#"{\"name\":\"sequence\",\"type\":\"decimal(20,0)\",\"nullable\":true,\"metadata\":{}},"#,
        "",
    );
    assert_ne!(less, text);
    fs::write(&path, &less).unwrap();
    let id = site.state().await.metadata.unwrap().id;
    assert!(site.log(100).make_equal(&site.files).await);
    let metadata = site.state().await.metadata.unwrap();
    assert!(metadata.schema_string.contains("sequence") && metadata.id == id);
    // Collectors that are configured in different ways do not take turns.
    let mut other = site.log(7);
    other.grace_s = 5;
    assert!(other.make_equal(&site.files).await);
    assert_eq!(site.state().await.version, Some(1));
}

#[test]
fn a_merge_waits_for_the_log_of_what_it_merges_but_not_for_one_that_fails() {
    let (account, flags) = (Arc::new(Account::default()), Flags::default());
    account.told(6);
    account.wait(6, &flags);
    let teller = {
        let account = Arc::clone(&account);
        std::thread::spawn(move || {
            account.succeeded(1, 2);
            account.told(7);
        })
    };
    account.wait(7, &flags);
    assert_eq!(account.counts().version, 1, "it had been told");
    teller.join().unwrap();
    let begun = Instant::now();
    account.failed();
    account.wait(8, &flags);
    flags.stop.store(true, std::sync::atomic::Ordering::Release);
    account.succeeded(1, 3);
    account.wait(8, &flags);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
