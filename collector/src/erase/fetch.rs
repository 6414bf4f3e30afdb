//! Files that are in the bucket only come back to the disk before they are looked through; they leave it again as files do
//! that are in both places.

use std::collections::BTreeSet;
use std::io::Write;

use event::bucket::{Bucket, BucketPlan, Identity, object_of};
use event::layout::{FileEntry, Manifest, Place};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;

use super::{EraseError, Eraser};
use crate::Flags;
use crate::compact::InputError;
use crate::parquet::{ParquetFileError, Unfinished};

impl Eraser {
    /// Brings those of some files to the disk that are not there.
    pub(super) fn fetch<'a>(
        &self,
        files: impl Iterator<Item = &'a FileEntry>,
        flags: &Flags,
    ) -> Result<(), EraseError> {
        let away: Vec<&FileEntry> = files.filter(|file| !file.place.is_on_disk()).collect();
        if away.is_empty() {
            return Ok(());
        }
        let (Some(plan), Some(identity)) = (&self.bucket, Identity::load(&self.folder)?) else {
            return Err(EraseError::NoBucket { path: away[0].path.clone() });
        };
        let paths: BTreeSet<&str> = away.iter().map(|file| file.path.as_str()).collect();
        // What left the disk may still be there for a while, and is not to be unlinked any more.
        self.table.commit(|next| {
            let before = next.removed.len();
            next.removed.retain(|removed| !paths.contains(removed.path.as_str()));
            (next.removed.len() < before).then_some(())
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(EraseError::Runtime)?;
        for file in away {
            if flags.any() {
                return Err(EraseError::Stopped);
            }
            runtime.block_on(self.fetch_one(plan, &identity, file))?;
            self.table.commit(|next| came(next, &file.path))?;
        }
        Ok(())
    }

    async fn fetch_one(
        &self,
        plan: &BucketPlan,
        identity: &Identity,
        file: &FileEntry,
    ) -> Result<(), EraseError> {
        let bucket = Bucket::open(plan)?;
        let object = object_of(&identity.collector, &file.path);
        let refused = |error: object_store::Error| bucket.error("read", &object, &error);
        let path = self.folder.root().join(&file.path);
        let (unfinished, mut sink) = Unfinished::create(&path)?;
        let got = bucket.store().get(&ObjectPath::from(object.as_str())).await.map_err(refused)?;
        let mut bytes = got.into_stream();
        while let Some(piece) = bytes.next().await {
            let written = sink.write_all(&piece.map_err(refused)?);
            written.map_err(|source| ParquetFileError::Io { path: path.clone(), source })?;
        }
        let written = unfinished.finish(sink)?;
        if (written.bytes, &written.checksum) != (file.bytes, &file.checksum) {
            let reason = format!("the object {object} is not what was uploaded");
            return Err(InputError::Damaged { path: file.path.clone(), reason }.into());
        }
        Ok(())
    }
}

/// Says that a file is in both places.
fn came(next: &mut Manifest, path: &str) -> Option<()> {
    let rollups = next.rollups.iter_mut().map(|entry| &mut entry.file);
    let file = next.files.iter_mut().chain(rollups).find(|file| file.path == path)?;
    file.place = Place::Both;
    Some(())
}
