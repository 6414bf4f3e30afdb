//! One file into the bucket: read once, compared with its checksum on the way, and looked at when it is there.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};

use event::bucket::{Bucket, BucketError, Cause};
use event::layout::{DataFolder, FileEntry};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStoreExt};
use twox_hash::XxHash3_64;

/// Why a file is not in the bucket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It left the disk, as a merge or retention has it.
    #[error("it is not on the disk")]
    Gone,
    /// It is not what was sealed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The disk.
    #[error("it cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// Uploads a file, in parts of `part_bytes` if it is larger, and compares its length there.
pub(super) async fn send(
    bucket: &Bucket,
    folder: &DataFolder,
    entry: &FileEntry,
    object: &str,
    part_bytes: u64,
) -> Result<(), SendError> {
    let mut file = match File::open(folder.root().join(&entry.path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SendError::Gone),
        file => file?,
    };
    let length = file.metadata()?.len();
    if length != entry.bytes {
        return Err(SendError::Damaged(format!("{length} bytes instead of {}", entry.bytes)));
    }
    let path = ObjectPath::from(object);
    let refused = |error: object_store::Error| bucket.error("write", object, &error);
    let mut hasher = XxHash3_64::new();
    if length <= part_bytes {
        let bytes = part(&mut file, length, &mut hasher)?;
        is_whole(entry, &hasher)?;
        bucket.store().put(&path, bytes.into()).await.map_err(refused)?;
    } else {
        let mut upload = bucket.store().put_multipart(&path).await.map_err(refused)?;
        let sent = parts(bucket, object, &mut file, entry, part_bytes, &mut hasher, upload.as_mut()).await;
        if sent.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(object, %error, "parts of an upload stay in the bucket until it drops them");
        }
        sent?;
    }
    bucket.settle(object)?;
    let found = bucket.store().head(&path).await.map_err(|error| bucket.error("look at", object, &error))?;
    if found.size != entry.bytes {
        let reason = format!("{} of {} bytes are there", found.size, entry.bytes);
        let bucket = bucket.url().to_owned();
        let cause = Cause::Damaged(reason);
        return Err(BucketError { doing: "write", object: object.to_owned(), bucket, cause }.into());
    }
    Ok(())
}

async fn parts(
    bucket: &Bucket,
    object: &str,
    file: &mut File,
    entry: &FileEntry,
    part_bytes: u64,
    hasher: &mut XxHash3_64,
    upload: &mut dyn MultipartUpload,
) -> Result<(), SendError> {
    let refused = |error: object_store::Error| bucket.error("write", object, &error);
    let mut left = entry.bytes;
    while left > 0 {
        let bytes = part(file, left.min(part_bytes), hasher)?;
        left -= bytes.len() as u64;
        upload.put_part(bytes.into()).await.map_err(refused)?;
    }
    is_whole(entry, hasher)?;
    upload.complete().await.map_err(refused)?;
    Ok(())
}

fn part(file: &mut File, length: u64, hasher: &mut XxHash3_64) -> Result<Vec<u8>, SendError> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    hasher.write(&bytes);
    Ok(bytes)
}

fn is_whole(entry: &FileEntry, hasher: &XxHash3_64) -> Result<(), SendError> {
    let found = format!("{:016x}", hasher.finish());
    match found == entry.checksum {
        true => Ok(()),
        false => {
            Err(SendError::Damaged(format!("its checksum is {found}, the manifest says {}", entry.checksum)))
        }
    }
}
