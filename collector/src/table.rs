//! The table's one owner: every change of the manifest goes through [`Table::commit`].
//!
//! Sealing adds files, retention takes files away, compaction does both. Each prepares what it wants on its own, and the
//! change itself is made on the manifest of that moment, stored durably, and only then adopted: what others committed
//! meanwhile is kept, and after an error the manifest of before stays in force, on disk and here.

use std::sync::{Arc, Mutex, PoisonError};

use event::layout::{DataFolder, LayoutError, Manifest};

/// A handle to the table of a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    folder: DataFolder,
    manifest: Arc<Mutex<Manifest>>,
}

impl Table {
    /// The table that a manifest says, which is the one on disk.
    pub(crate) fn new(folder: DataFolder, manifest: Manifest) -> Self {
        Self { folder, manifest: Arc::new(Mutex::new(manifest)) }
    }

    /// What the manifest in force says. Others wait meanwhile: it is for a look, not for work.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Manifest) -> T) -> T {
        at(&self.manifest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a change and puts it in force, durably and at once. A change that gives none is not made.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub(crate) fn commit<T>(
        &self,
        change: impl FnOnce(&mut Manifest) -> Option<T>,
    ) -> Result<Option<T>, LayoutError> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = manifest.clone();
        let Some(made) = change(&mut next) else { return Ok(None) };
        next.version = manifest.version + 1;
        next.store(&self.folder)?;
        *manifest = next;
        Ok(Some(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_is_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let table = Table::new(folder.clone(), Manifest::default());
        let sealed = |number| {
            move |next: &mut Manifest| {
                next.sealed_through = number;
                Some(())
            }
        };
        assert!(table.commit(sealed(4)).unwrap().is_some());
        assert_eq!(Manifest::load(&folder).unwrap().version, 1);
        assert!(table.commit(|next| (next.sealed_through > 4).then_some(())).unwrap().is_none());
        assert_eq!(table.look(|manifest| manifest.version), 1);
        // The disk refuses while there is no folder to write to.
        std::fs::rename(folder.state(), root.path().join("away")).unwrap();
        assert!(table.commit(sealed(9)).is_err());
        std::fs::rename(root.path().join("away"), folder.state()).unwrap();
        assert_eq!(table.look(|manifest| (manifest.version, manifest.sealed_through)), (1, 4));
        assert_eq!(Manifest::load(&folder).unwrap().sealed_through, 4);
    }
}
