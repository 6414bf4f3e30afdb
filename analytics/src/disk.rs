//! Files of the data folder as the engine reads them: on the thread that asks, which only the query has that asks
//! ([`crate::runner`]). The engine's own store hands each read to another thread and waits, which for the small files of
//! roll-ups takes longer than the read. Each read is a pause all the same, at which a query that is over ends. Whoever asks for
//! a file in one piece, or for one range by itself, has it from that store. Nothing can be written.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

const STORE: &str = "data folder";

/// The files of this machine.
#[derive(Debug, Default)]
pub(crate) struct Disk(LocalFileSystem);

impl Display for Disk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

fn failed(path: &std::path::Path, source: io::Error) -> Error {
    let (path, missing) = (path.display().to_string(), source.kind() == io::ErrorKind::NotFound);
    let source = Box::new(io::Error::new(source.kind(), format!("{path}: {source}")));
    if missing { Error::NotFound { path, source } } else { Error::Generic { store: STORE, source } }
}

fn refused<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() })
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        refused("put_opts")
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refused("put_multipart_opts")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // A scan that keeps no row pauses nowhere else.
        tokio::task::yield_now().await;
        let path = self.0.path_to_filesystem(location)?;
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let read = |range: &Range<u64>| {
            let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(Bytes::from(bytes))
        };
        ranges.iter().map(|range| read(range).map_err(|error| failed(&path, error))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_pauses_and_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b%20.parquet");
        std::fs::write(&path, b"0123456789").unwrap();
        let location = Path::from_filesystem_path(&path).unwrap();
        let disk = Disk::default();
        let ranges = [2..5, 9..10];
        let mut read = disk.get_ranges(&location, &ranges);
        assert!(futures::poll!(&mut read).is_pending(), "no pause");
        assert_eq!(read.await.unwrap(), [&b"234"[..], b"9"]);
        assert!(disk.get_ranges(&location, &[0..1, 8..11]).await.is_err(), "beyond the end");
        std::fs::remove_file(&path).unwrap();
        let gone = disk.get_ranges(&location, &ranges).await.unwrap_err();
        assert!(
            matches!(&gone, Error::NotFound { .. }) && gone.to_string().contains("a b%20.parquet"),
            "{gone}"
        );
    }
}
