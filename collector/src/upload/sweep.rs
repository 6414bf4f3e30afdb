//! What is deleted in the bucket: objects that left the table once their grace is over, and what a crash left behind.

use std::collections::{BTreeMap, BTreeSet};

use event::bucket::{Bucket, folder_of, object_of};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;

use super::{UploadError, Uploader};

/// Deletions at one time.
const DELETES_MAX: usize = 8;

impl Uploader {
    /// Objects whose grace is over.
    pub(super) fn due(&self, now_us: i64) -> Vec<String> {
        let grace_us = i64::from(self.settings.grace_s) * 1_000_000;
        let removed = self.mine.iter().flat_map(|mine| &mine.list.removed);
        let due = removed.filter(|removed| now_us.saturating_sub(removed.at_us) >= grace_us);
        due.map(|removed| removed.path.clone()).filter(|path| !self.deleted.contains(path)).collect()
    }

    pub(super) async fn delete_due(&mut self, bucket: &Bucket) -> Result<(), UploadError> {
        let due = self.due(crate::now_us());
        self.delete(bucket, due).await
    }

    /// Deletes objects, named as in the data folder. One that is gone was deleted before a crash.
    async fn delete(&mut self, bucket: &Bucket, paths: Vec<String>) -> Result<(), UploadError> {
        let Some(mine) = &self.mine else { return Ok(()) };
        let collector = &mine.identity.collector;
        let deletes = paths.into_iter().map(|path| async move {
            let object = object_of(collector, &path);
            match bucket.store().delete(&ObjectPath::from(object.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(path),
                Err(error) => Err(bucket.error("delete", &object, &error)),
            }
        });
        let mut deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_MAX);
        while let Some(path) = deletes.try_next().await? {
            self.settings.account.deleted();
            if let Some(there) = &mut self.there {
                there.remove(&path);
            }
            self.deleted.insert(path);
        }
        Ok(())
    }

    /// Deletes objects of this collector that nothing names: a crash left them.
    pub(super) async fn sweep(&mut self, bucket: &Bucket) -> Result<(), UploadError> {
        let objects = self.objects(bucket).await?;
        let Some(mine) = &self.mine else { return Ok(()) };
        bucket.remove_halves(&folder_of(&mine.identity.collector))?;
        let mut named: BTreeSet<String> = mine.list.all().map(|file| file.path.clone()).collect();
        named.extend(mine.list.removed.iter().map(|removed| removed.path.clone()));
        named.extend(mine.object.clone());
        // Uploaded already, and named with its day.
        self.settings.table.look(|now| {
            named.extend(now.files.iter().map(|file| file.path.clone()));
            named.extend(now.rollups.iter().map(|entry| entry.file.path.clone()));
        });
        let strays: Vec<String> = objects.into_keys().filter(|path| !named.contains(path)).collect();
        if !strays.is_empty() {
            tracing::info!(objects = strays.len(), "deleting what nothing names in the bucket");
        }
        self.delete(bucket, strays).await
    }

    /// All objects of this collector.
    pub(super) async fn objects(&self, bucket: &Bucket) -> Result<BTreeMap<String, u64>, UploadError> {
        let Some(mine) = &self.mine else { return Ok(BTreeMap::new()) };
        let folder = folder_of(&mine.identity.collector);
        let refused = |error: object_store::Error| bucket.error("list", &folder, &error);
        let mut found = BTreeMap::new();
        let mut objects = bucket.store().list(Some(&ObjectPath::from(folder.as_str())));
        while let Some(object) = objects.try_next().await.map_err(refused)? {
            let path = object.location.as_ref().strip_prefix(&folder).and_then(|path| path.strip_prefix('/'));
            found.extend(path.map(|path| (path.to_owned(), object.size)));
        }
        Ok(found)
    }
}
