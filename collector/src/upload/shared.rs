//! This collector's part of what all collectors of the bucket agree on, and how it changes.
//!
//! A change is a new list, which is an object of its own, and then a root that names it in the place of the one before:
//! written only if nobody has changed the root since it was read, read again and tried again otherwise. The change has a
//! tag that is on the local disk before it is tried, so that whatever becomes of the answer, and of this process, the next
//! look at the root says whether it was made.

use std::time::Duration;

use event::bucket::{Bucket, Identity, List, object_of};
use event::layout::Removed;

use super::{Mine, UploadError, Uploader};
use crate::random;

/// Most times that others may be quicker.
const CONFLICTS_MAX: u32 = 30;
/// Longest wait after the first conflict; it grows with each further one.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

impl Uploader {
    /// Reads what is in force of this collector, unless that is known, and makes sure that nobody else has its id.
    pub(super) async fn enter(&mut self, bucket: &Bucket) -> Result<(), UploadError> {
        let mut identity = match self.mine.take() {
            Some(mine) if mine.claimed => {
                self.mine = Some(mine);
                return Ok(());
            }
            Some(mine) => mine.identity,
            None => self.identity()?,
        };
        let (root, _) = bucket.root().await?;
        let collector = identity.collector.clone();
        let pointer = root.collectors.get(&collector);
        if !identity.knows(pointer.map(|pointer| pointer.tag.as_str())) {
            return Err(UploadError::Fenced { bucket: bucket.url().to_owned(), collector });
        }
        let (list, object) = match pointer {
            Some(pointer) => {
                identity.settle(&pointer.tag);
                let object = pointer.list.strip_prefix(&object_of(&collector, "")).unwrap_or(&pointer.list);
                (bucket.list(&pointer.list).await?, Some(object.to_owned()))
            }
            None => (List { collector, ..List::default() }, None),
        };
        self.mine = Some(Mine { identity, list: list.clone(), object, claimed: false });
        // A change before the first upload: a copy of this folder is found out before it can write over anything.
        self.commit(bucket, list).await
    }

    /// Puts a list in force.
    pub(super) async fn commit(&mut self, bucket: &Bucket, mut next: List) -> Result<(), UploadError> {
        let Some(mine) = &mut self.mine else { return Ok(()) };
        let nonce = letters()?;
        next.version = mine.list.version + 1;
        let tag = format!("{}-{nonce}", next.version);
        let name = format!("list-{:010}-{nonce}.json", next.version);
        let collector = mine.identity.collector.clone();
        let object = object_of(&collector, &name);
        let now_us = crate::now_us();
        next.removed.retain(|removed| !self.deleted.contains(&removed.path));
        next.removed.extend(mine.object.clone().map(|path| Removed { path, at_us: now_us }));
        mine.identity.will_try(&tag);
        mine.identity.store(&self.settings.folder)?;
        bucket.put_list(&object, &next).await?;
        let mut conflicts = 0;
        loop {
            let (mut root, stamp) = bucket.root().await?;
            let found = root.collectors.get(&collector).map(|pointer| pointer.tag.as_str());
            if found == Some(tag.as_str()) {
                // It was made, only that its answer did not come.
                break;
            }
            if found != mine.identity.last.as_deref() {
                return Err(UploadError::Fenced { bucket: bucket.url().to_owned(), collector });
            }
            root.version += 1;
            root.collectors.insert(collector.clone(), next.pointer(&tag, object.clone(), now_us));
            if bucket.swap_root(&root, &stamp).await? {
                break;
            }
            conflicts += 1;
            self.settings.account.conflicted();
            if conflicts >= CONFLICTS_MAX {
                return Err(UploadError::Conflicts(conflicts));
            }
            // All of them came at one time: they must not do so again.
            let share = u32::from_str_radix(&letters()?[..4], 16).unwrap_or_default();
            tokio::time::sleep(CONFLICT_PAUSE * conflicts * share / (1 << 16)).await;
        }
        mine.identity.settle(&tag);
        mine.list = next;
        mine.object = Some(name);
        mine.claimed = true;
        self.deleted.clear();
        self.settings.account.committed();
        Ok(())
    }

    /// Who the data folder is; made when there is none.
    fn identity(&self) -> Result<Identity, UploadError> {
        if let Some(identity) = Identity::load(&self.settings.folder)? {
            return Ok(identity);
        }
        let identity = Identity { collector: letters()?, last: None, tried: Vec::new() };
        identity.store(&self.settings.folder)?;
        Ok(identity)
    }
}

/// Sixteen letters that nobody else has.
fn letters() -> Result<String, UploadError> {
    let bytes = random::bytes().map_err(UploadError::Random)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
