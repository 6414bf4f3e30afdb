//! What other collectors have uploaded, read from the bucket: a picture that is renewed at a pace, and a store for the
//! engine whose errors say which object they are of.
//!
//! A picture is one root with the lists that it names: one moment of the table. While the bucket is away the last one
//! serves, and answers say so.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use event::bucket::{Bucket, BucketError, BucketPlan, Cause, Identity, List, ROOT, Stamp, object_of};
use event::layout::{DataFolder, FileEntry, Place, RollupEntry};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What errors of the bucket call it; the engine passes some on as text.
pub(crate) const STORE: &str = "bucket";
/// Attempts at one picture while lists are replaced.
const ATTEMPTS_MAX: u32 = 5;

/// What was in the bucket at one moment.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// That of the root.
    version: u64,
    stamp: Stamp,
    /// The list of each collector, with the tag of its change.
    lists: BTreeMap<String, (String, Arc<Shared>)>,
}

/// Files of one collector, under their names in the bucket.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) files: Vec<FileEntry>,
    pub(crate) rollups: Vec<RollupEntry>,
}

impl From<List> for Shared {
    fn from(list: List) -> Self {
        let List { collector, mut files, mut rollups, .. } = list;
        for file in files.iter_mut().chain(rollups.iter_mut().map(|entry| &mut entry.file)) {
            file.path = object_of(&collector, &file.path);
            file.place = Place::Bucket;
        }
        Self { files, rollups }
    }
}

/// Follows a bucket.
#[derive(Debug)]
pub(crate) struct Follower {
    plan: BucketPlan,
    folder: DataFolder,
    bucket: Mutex<Option<Bucket>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    picture: Arc<Picture>,
    /// The collector of this data folder, whose files the local manifest names.
    own: Option<String>,
    /// When the picture was last known to be that of the moment.
    at: Option<Instant>,
    /// Why it is not now.
    away: Option<String>,
}

/// The other collectors at one moment.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) lists: Vec<Arc<Shared>>,
    /// The version of the root that named them.
    pub(crate) version: u64,
    /// The collector of this data folder.
    pub(crate) own: Option<String>,
    /// Why the bucket cannot be looked at now.
    pub(crate) away: Option<String>,
}

impl Follower {
    pub(crate) fn new(plan: BucketPlan, folder: DataFolder) -> Self {
        Self { plan, folder, bucket: Mutex::default(), seen: Mutex::default() }
    }

    /// The bucket; a folder may come later than its configuration.
    fn bucket(&self) -> std::result::Result<Bucket, BucketError> {
        let mut opened = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = opened.as_ref() {
            return Ok(bucket.clone());
        }
        Ok(opened.insert(Bucket::open(&self.plan)?).clone())
    }

    /// Renews the picture for ever, at the configured pace.
    pub(crate) async fn follow(&self) {
        loop {
            self.look().await;
            tokio::time::sleep(self.plan.poll_interval()).await;
        }
    }

    /// Renews the picture, if the root is another one.
    pub(crate) async fn look(&self) {
        let known = Arc::clone(&self.seen.lock().unwrap_or_else(PoisonError::into_inner).picture);
        let renewed = self.renewed(&known).await;
        // After the root: what it says of this folder's collector is not taken for another's.
        let own = Identity::load(&self.folder);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match own {
            Ok(identity) => seen.own = identity.map(|identity| identity.collector),
            Err(error) => {
                seen.away = Some(error.to_string());
                return;
            }
        }
        match renewed {
            Ok(picture) => {
                // Two may look at one time: the newer picture stays.
                if let Some(picture) = picture.filter(|picture| picture.version >= seen.picture.version) {
                    seen.picture = Arc::new(picture);
                }
                seen.at = Some(Instant::now());
                if seen.away.take().is_some() {
                    tracing::info!("the bucket can be read again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if seen.away.is_none() {
                    tracing::error!(error, "what other collectors upload is not seen");
                }
                seen.away = Some(error);
            }
        }
    }

    /// A new picture, if the root is another one.
    async fn renewed(&self, known: &Picture) -> std::result::Result<Option<Picture>, BucketError> {
        let bucket = self.bucket()?;
        let mut attempt = 1;
        'root: loop {
            let Some((root, stamp)) = bucket.newer_root(&known.stamp).await? else { return Ok(None) };
            let mut lists = BTreeMap::new();
            for (collector, pointer) in root.collectors {
                let list = match known.lists.get(&collector) {
                    Some((tag, list)) if *tag == pointer.tag => Arc::clone(list),
                    _ => match bucket.list(&pointer.list).await {
                        Ok(list) => Arc::new(Shared::from(list)),
                        // Replaced and deleted between the two looks.
                        Err(error) if error.cause == Cause::Missing && attempt < ATTEMPTS_MAX => {
                            attempt += 1;
                            continue 'root;
                        }
                        Err(error) => return Err(error),
                    },
                };
                lists.insert(collector, (pointer.tag, list));
            }
            return Ok(Some(Picture { version: root.version, stamp, lists }));
        }
    }

    /// What the last picture says of the others.
    pub(crate) fn others(&self) -> Others {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let others = seen.picture.lists.iter().filter(|(collector, _)| Some(*collector) != seen.own.as_ref());
        let lists = others.map(|(_, (_, list))| Arc::clone(list)).collect();
        let away = match (&seen.away, seen.at) {
            (Some(reason), Some(at)) => {
                Some(format!("what it says is {} s old: {reason}", at.elapsed().as_secs()))
            }
            (Some(reason), None) => Some(format!("it was never read: {reason}")),
            (None, Some(_)) => None,
            (None, None) => Some("it has not been read yet".to_owned()),
        };
        // Before the first look the folder may say who it is.
        let own = seen.own.clone().or_else(|| Some(Identity::load(&self.folder).ok()??.collector));
        Others { lists, version: seen.picture.version, own, away }
    }

    /// The version of the root that the last picture is of.
    pub(crate) fn version(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).picture.version
    }

    /// The root's name, for people.
    pub(crate) fn root(&self) -> String {
        format!("{}/{ROOT}", self.plan.url().trim_end_matches('/'))
    }
}

/// The bucket as the engine reads it. Nothing can be written.
#[derive(Debug, Clone)]
pub(crate) struct ReadOnly(pub(crate) Arc<Follower>);

impl Display for ReadOnly {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.plan.url())
    }
}

fn wrapped(error: BucketError) -> Error {
    Error::Generic { store: STORE, source: Box::new(error) }
}

fn refused<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.to_owned(), implementer: "ReadOnly".to_owned() })
}

#[async_trait]
impl ObjectStore for ReadOnly {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        refused("put_opts")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refused("put_multipart_opts")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let bucket = self.0.bucket().map_err(wrapped)?;
        let object = location.to_string();
        let mut got = bucket
            .store()
            .get_opts(location, options)
            .await
            .map_err(|error| wrapped(bucket.error("read", &object, &error)))?;
        got.payload = match got.payload {
            GetResultPayload::Stream(stream) => {
                let named = move |error: Error| wrapped(bucket.error("read", &object, &error));
                GetResultPayload::Stream(stream.map_err(named).boxed())
            }
            payload => payload,
        };
        Ok(got)
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { refused("delete_stream") }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async { refused("list") }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        refused("list_with_delimiter")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        refused("copy_opts")
    }
}
