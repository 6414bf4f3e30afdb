use event::layout::Manifest;
use event::rollup::{Grouping, Resolution};

use super::*;

fn file(path: &str) -> FileEntry {
    FileEntry {
        path: path.into(),
        rows: 1,
        bytes: 4,
        checksum: event::layout::checksum(b"PAR1"),
        time_min_us: 0,
        time_max_us: 1,
        hot: 1,
        level: 0,
        place: Place::Local,
    }
}

fn rollup(path: &str) -> RollupEntry {
    RollupEntry {
        file: file(path),
        resolution: Resolution::Hour,
        grouping: Grouping::All,
        requests: 1,
        overflowed: 0,
    }
}

fn paths(list: &List) -> Vec<&str> {
    list.all().map(|file| file.path.as_str()).collect()
}

#[test]
fn a_day_changes_as_a_whole_but_for_folders_that_are_held() {
    let (day, other) = ("date=2026-01-02", "requests/date=2026-01-01/hour=23/a");
    let (seven, eight) = ("requests/date=2026-01-02/hour=07", "requests/date=2026-01-02/hour=08");
    let before = List {
        files: vec![file(other), file(&format!("{seven}/a")), file(&format!("{eight}/a"))],
        ..List::default()
    };
    let now = || vec![file(&format!("{seven}/merged")), file(&format!("{eight}/merged"))];
    let rolled = || vec![rollup("rollups/1h/date=2026-01-02/a")];
    let next = with_day(&before, day, now(), rolled(), &BTreeSet::new());
    assert_eq!(
        paths(&next),
        [other, &format!("{seven}/merged"), &format!("{eight}/merged"), "rollups/1h/date=2026-01-02/a"]
    );
    let next = with_day(&before, day, now(), rolled(), &[seven.to_owned()].into());
    assert_eq!(
        paths(&next),
        [other, &format!("{seven}/a"), &format!("{eight}/merged"), "rollups/1h/date=2026-01-02/a"]
    );
    assert_eq!(paths(&with_day(&before, day, Vec::new(), Vec::new(), &BTreeSet::new())), [other]);
}

/// A data folder with a bucket that is a folder.
struct House {
    root: tempfile::TempDir,
    folder: DataFolder,
    table: Table,
    account: Arc<Account>,
    uploader: Uploader,
}

impl House {
    fn new(bucket: &std::path::Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        Self::on(root, folder, bucket)
    }

    fn on(root: tempfile::TempDir, folder: DataFolder, bucket: &std::path::Path) -> Self {
        let table = Table::new(folder.clone(), Manifest::load(&folder).unwrap());
        let account = Arc::new(Account::new(1_000));
        let config = event::bucket::BucketConfig {
            url: Some(format!("file://{}", bucket.display())),
            ..event::bucket::BucketConfig::default()
        };
        let uploader = Uploader::new(Settings {
            folder: folder.clone(),
            plan: event::bucket::validate(&config).unwrap().unwrap(),
            compaction: CompactionConfig::default(),
            grace_s: 0,
            table: table.clone(),
            account: Arc::clone(&account),
            delta: None,
        });
        Self { root, folder, table, account, uploader }
    }

    /// The same folder after a start.
    fn again(self, bucket: &std::path::Path) -> Self {
        Self::on(self.root, self.folder, bucket)
    }

    fn add(&self, path: &str) {
        let place = self.folder.root().join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, b"PAR1").unwrap();
        self.table
            .commit(|next| {
                next.files.push(file(path));
                Some(())
            })
            .unwrap();
    }

    fn remove(&self, path: &str) {
        self.table
            .commit(|next| {
                next.files.retain(|file| file.path != path);
                Some(())
            })
            .unwrap();
    }

    fn round(&mut self) -> Result<(), UploadError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(self.uploader.round());
        if done.is_err() {
            (self.uploader.mine, self.uploader.bucket) = (None, None);
        }
        done
    }

    fn places(&self) -> Vec<Place> {
        self.table.look(|now| now.files.iter().map(|file| file.place).collect())
    }
}

/// Files in a bucket that are no manifests, below the folders of collectors.
fn objects(bucket: &std::path::Path) -> Vec<String> {
    fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path.file_name().unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    let mut found = Vec::new();
    walk(&bucket.join("collectors"), &mut found);
    found.retain(|name| !name.starts_with("list-"));
    found.sort();
    found
}

const HOUR: &str = "requests/date=2026-01-02/hour=07";

#[test]
fn the_bucket_becomes_equal_to_the_manifest_and_what_left_is_deleted() {
    let bucket = tempfile::tempdir().unwrap();
    let mut house = House::new(bucket.path());
    house.add(&format!("{HOUR}/a.parquet"));
    house.add(&format!("{HOUR}/b.parquet"));
    house.round().unwrap();
    assert_eq!(
        (objects(bucket.path()), house.places()),
        (vec!["a.parquet".into(), "b.parquet".into()], vec![Place::Both; 2])
    );
    assert_eq!(Manifest::load(&house.folder).unwrap().files[1].place, Place::Both);
    // Merged, as the manifest has it; then a crash, and a stray of it.
    house.add(&format!("{HOUR}/merged.parquet"));
    house.remove(&format!("{HOUR}/a.parquet"));
    house.remove(&format!("{HOUR}/b.parquet"));
    house.round().unwrap();
    house.round().unwrap();
    assert_eq!(objects(bucket.path()), ["merged.parquet"]);
    let id = house.uploader.mine.as_ref().unwrap().identity.collector.clone();
    std::fs::write(bucket.path().join(format!("collectors/{id}/{HOUR}/stray.parquet")), b"PAR1").unwrap();
    let mut house = house.again(bucket.path());
    house.round().unwrap();
    assert_eq!(objects(bucket.path()), ["merged.parquet"]);
    assert_eq!((house.account.counts().files, house.account.counts().conflicts), (0, 0));
    // No list of before stays for ever.
    house.add(&format!("{HOUR}/c.parquet"));
    (0..3).for_each(|_| house.round().unwrap());
    let lists = std::fs::read_dir(bucket.path().join(format!("collectors/{id}"))).unwrap();
    let lists =
        lists.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("list-"));
    assert_eq!(lists.count(), 1);
}

#[test]
fn two_collectors_share_a_bucket_and_a_copy_of_one_is_found_out() {
    let bucket = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (House::new(bucket.path()), House::new(bucket.path()));
    one.add(&format!("{HOUR}/a.parquet"));
    two.add(&format!("{HOUR}/a.parquet"));
    one.round().unwrap();
    two.round().unwrap();
    assert_eq!(objects(bucket.path()), ["a.parquet", "a.parquet"]);
    // A copy of the first one's folder, before either goes on.
    let copy = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(copy.path()).unwrap();
    for name in ["manifest.json", "bucket.json"] {
        std::fs::copy(one.folder.state().join(name), folder.state().join(name)).unwrap();
    }
    let mut copy = House::on(copy, folder, bucket.path());
    one.add(&format!("{HOUR}/b.parquet"));
    one.round().unwrap();
    copy.add(&format!("{HOUR}/c.parquet"));
    let error = copy.round().unwrap_err();
    assert!(matches!(error, UploadError::Fenced { .. }), "{error}");
    assert!(matches!(copy.round().unwrap_err(), UploadError::Fenced { .. }), "and again");
    assert_eq!(objects(bucket.path()), ["a.parquet", "a.parquet", "b.parquet"]);
    // The one that goes on notices nothing, nor after a start.
    one.add(&format!("{HOUR}/d.parquet"));
    one.round().unwrap();
    let mut one = one.again(bucket.path());
    one.add(&format!("{HOUR}/e.parquet"));
    one.round().unwrap();
    // Another bucket is not taken for the one of before.
    let other = tempfile::tempdir().unwrap();
    let mut lost = one.again(other.path());
    assert!(matches!(lost.round().unwrap_err(), UploadError::Fenced { .. }));
}

#[test]
fn a_damaged_file_holds_its_hour_and_nothing_else() {
    let bucket = tempfile::tempdir().unwrap();
    let mut house = House::new(bucket.path());
    house.add(&format!("{HOUR}/a.parquet"));
    house.add("requests/date=2026-01-02/hour=08/b.parquet");
    std::fs::write(house.folder.root().join(format!("{HOUR}/a.parquet")), b"XXXX").unwrap();
    house.round().unwrap();
    assert_eq!(
        (objects(bucket.path()), house.places()),
        (vec!["b.parquet".into()], vec![Place::Local, Place::Both])
    );
    let watch = Watch {
        table: house.table.clone(),
        account: Arc::clone(&house.account),
        held: Arc::clone(&house.uploader.held),
    };
    watch.measure();
    assert_eq!(house.account.counts().backlog_files, 0);
    // Set aside, as a repair does.
    house.remove(&format!("{HOUR}/a.parquet"));
    house.add(&format!("{HOUR}/c.parquet"));
    house.round().unwrap();
    assert_eq!(objects(bucket.path()), ["b.parquet", "c.parquet"]);
}
