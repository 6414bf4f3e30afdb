//! The collector: from the spool to rows, metrics and spans.
//!
//! Low-priority threads do the work. Intake tails the spool of every core, shows each event to the adapters
//! (Prometheus, OpenTelemetry) and stores it in the newest hot file; sealing turns closed hot files into Parquet and
//! roll-ups, and applies retention; compaction merges Parquet files of hours that are over; upload brings them into a
//! bucket, where there is one; `delta` tells other engines which files are the table, where that is asked for. Or its batches go to a collector on another host, which stores them like its own (`hosts`). An event is released from the
//! spool once its row is on disk, and its place in the lane is written with it, so that a crash at any point neither loses
//! a row nor makes it twice.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;

mod lock;

mod running;

mod recover;

mod lane;

mod intake;

mod columns;

mod compare;

pub mod adapters;

mod store;

mod hosts;

mod outlet;

mod seal;

mod parquet;

mod rollup;

mod retention;

mod table;

mod upkeep;

mod disk;

mod random;

mod damage;

mod compact;

mod erase;

mod upload;

mod delta;

pub mod ledger;

pub mod storage;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::hot::Watermarks;
use event::layout::DataFolder;

use lock::Lock;
use running::{Threads, spawn};

pub use columns::ColumnsError;
pub use config::{
    CollectorConfig, CompactionConfig, ParquetConfig, Plan, RetentionConfig, RollupConfig, SealConfig,
    validate,
};
pub use delta::DeltaConfig;
pub use hosts::{ForwardConfig, ReceiveConfig, ReceiveError};
pub use parquet::ParquetFileError;
pub use recover::RecoverError;
pub use rollup::{RebuildError, Rebuilt, RollupError, rebuild};
pub(crate) use running::Flags;
pub use running::{Handover, Report, Running};
pub use seal::SealError;
pub use store::StoreError;

/// Why the collector cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another collector is at work on the data folder.
    #[error("the data folder {folder} has a collector already: stop it, or choose another folder")]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The lock that keeps two collectors apart cannot be taken.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What an earlier run left cannot be put in order.
    #[error("cannot recover the data folder: {0}")]
    Recover(#[from] RecoverError),
    /// Metrics listener or span export.
    #[error(transparent)]
    Adapters(#[from] adapters::StartError),
    /// The listener for other hosts.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Puts the data folder in order and starts the threads.
///
/// # Errors
/// If the folder cannot be recovered, the metrics address cannot be bound, or the system gives no thread.
pub fn start(plan: Plan, folder: &DataFolder) -> Result<Running, StartError> {
    take_over(plan, folder, Handover::default())
}

/// The same with what a collector in another process handed over. That collector must have left.
///
/// # Errors
/// As of [`start`].
pub fn take_over(plan: Plan, folder: &DataFolder, from: Handover) -> Result<Running, StartError> {
    let lock = match from.lock {
        Some(file) => Lock::of(file, folder)?,
        None => Lock::take(folder)?,
    };
    let listener = match from.listener {
        Some(listener) => listener,
        None => adapters::bind(&plan.config.metrics)?,
    };
    let kept = listener.try_clone().map_err(StartError::Thread)?;
    let account = Arc::new(hosts::Account::default());
    let config = &plan.config;
    let door = hosts::Door::open(&config.receive, &account)?;
    let mut found = recover::recover(folder)?;
    // What other hosts acknowledged is stored, too, also when rows stay here from now on.
    merge(&mut found.marks, &hosts::marks(folder).map_err(RecoverError::from)?);
    let forwarder = config
        .forward
        .is_on()
        .then(|| hosts::Forwarder::new(folder, &config.forward, &found.marks, Arc::clone(&account)))
        .transpose()
        .map_err(RecoverError::from)?;
    let (door, remote) = match door {
        None => (None, None),
        Some((door, deliveries)) => {
            let remote = hosts::Remote::new(folder, &config.receive, deliveries, Arc::clone(&account));
            (Some(door), Some(remote.map_err(RecoverError::from)?))
        }
    };
    let receive_addr = door.as_ref().map(|door| door.address);
    // Rows that go to other hosts leave nothing here to seal or to merge, but what was stored before.
    let idle = forwarder.is_some() && found.hot.is_empty() && found.manifest.files.is_empty();
    let queue = seal::Queue::default();
    found.hot.into_iter().for_each(|number| queue.push(number));
    let shared = ledger::Shared::default();
    let uploads = plan.bucket.as_ref().map(|bucket| bucket.config().backlog_bytes_max);
    let uploads = uploads.map(|backlog_bytes_max| Arc::new(upload::Account::new(backlog_bytes_max)));
    let table = table::Table::new(folder.clone(), found.manifest);
    let upkeep = upkeep::Upkeep { table: table.clone(), compaction: Arc::default() };
    let delta = config.delta.enabled.then(Arc::<delta::Account>::default);
    let (mut adapters, metrics_addr) = adapters::Adapters::start_on(
        listener,
        &config.metrics,
        &config.otlp,
        adapters::Shown {
            ledger: Arc::clone(&shared),
            folder: folder.clone(),
            hosts: account,
            uploads: uploads.clone(),
            upkeep: Some(upkeep.clone()),
            delta: delta.clone(),
            spool_bytes_max: plan.spool_bytes_max,
        },
        now_us(),
    )?;
    let drain = Duration::from_millis(config.drain_timeout_ms.into());
    let flags = Arc::new(Flags::default());

    let sealer = seal::Sealer::new(folder.clone(), plan.clone(), queue.clone(), table.clone());
    let uploader = uploads.clone().zip(plan.bucket.clone()).map(|(account, bucket)| {
        upload::Uploader::new(upload::Settings {
            folder: folder.clone(),
            plan: bucket,
            compaction: config.compaction.clone(),
            grace_s: config.retention.grace_s,
            table: table.clone(),
            account,
            delta: delta.clone().map(|account| (config.delta.clone(), account)),
        })
    });
    let compactor = (!idle).then(|| {
        let compactor = compact::Compactor::new(folder.clone(), &plan, table.clone(), uploads.clone());
        compactor.counted_by(upkeep.compaction).behind(delta.clone().map(|log| match uploads {
            Some(_) => compact::Behind::Bucket,
            None => compact::Behind::Folder(log),
        }))
    });
    // In a bucket the Delta log is the uploader's.
    let keeper = delta.filter(|_| uploads.is_none()).map(|account| delta::Keeper {
        folder: folder.clone(),
        table: table.clone(),
        config: config.delta.clone(),
        grace_s: config.retention.grace_s,
        account,
    });
    let mut lives: Vec<_> = adapters.life().map(|life| ("adapters", life)).into_iter().collect();
    let sealing = (!idle)
        .then(|| {
            let flags = Arc::clone(&flags);
            spawn("sealing", &mut lives, move || sealer.run(&flags))
        })
        .transpose()?;
    let mut away = Vec::new();
    let outlet = match forwarder {
        Some((forwarder, courier)) => {
            let thread = spawn("forward", &mut lives, move || courier.run());
            away.push(thread.inspect_err(|_| queue.close())?);
            outlet::Outlet::Away(Box::new(forwarder))
        }
        None => outlet::Outlet::Here(Box::new(store::Store::new(
            folder.clone(),
            config.seal.clone(),
            Duration::from_millis(config.sync_interval_ms.into()),
            queue.clone(),
            found.next,
            found.marks.clone(),
        ))),
    };
    let intake = {
        let (flags, folder, shared) = (Arc::clone(&flags), folder.clone(), Arc::clone(&shared));
        spawn("intake", &mut lives, move || {
            let outlets = (outlet, remote, uploads);
            let intake = intake::Intake::new(plan, folder, adapters, outlets, (found.marks, table), shared);
            intake.run(&flags)
        })
    };
    let intake = intake.inspect_err(|_| queue.close())?;
    let compaction = compactor.map(|compactor| {
        let flags = Arc::clone(&flags);
        spawn("compaction", &mut lives, move || compactor.run(&flags))
    });
    // Without it the rest works: files stay small, and the next start tries again.
    let compaction = compaction
        .and_then(|thread| thread.inspect_err(|error| tracing::error!(%error, "no compaction")).ok());
    let upload = uploader.map(|uploader| {
        let flags = Arc::clone(&flags);
        spawn("upload", &mut lives, move || uploader.run(&flags))
    });
    let upload =
        upload.and_then(|thread| thread.inspect_err(|error| tracing::error!(%error, "no uploads")).ok());
    let keeper = keeper.and_then(|keeper| {
        let (flags, account) = (Arc::clone(&flags), Arc::clone(&keeper.account));
        let thread = spawn("delta", &mut lives, move || keeper.run(&flags));
        let said = thread.inspect_err(|error| tracing::error!(%error, "no Delta log"));
        said.inspect_err(|_| account.failed()).ok()
    });
    let mut threads = Threads {
        intake,
        sealing,
        hosts: away,
        receiver: None,
        compaction,
        upload,
        delta: keeper,
        queue,
        flags,
        drain,
        lives,
    };
    if let Some(door) = door {
        let (receiver, serve) = door.ready(threads.intake.thread().clone());
        match spawn("receive", &mut threads.lives, serve) {
            Ok(thread) => threads.hosts.push(thread),
            Err(error) => {
                threads.flags.abandon.store(true, Ordering::Release);
                threads.wake();
                return Err(error);
            }
        }
        threads.receiver = Some(receiver);
    }
    let threads = Some(threads);
    Ok(Running {
        metrics_addr,
        receive_addr,
        ledger: shared,
        threads,
        listener: Some(kept),
        lock: Some(lock),
    })
}

/// Takes over those positions that are further on.
fn merge(marks: &mut Watermarks, others: &Watermarks) {
    for (key, other) in others {
        let mark = marks.entry(key.clone()).or_insert(*other);
        if other.sequence > mark.sequence {
            *mark = *other;
        }
    }
}

/// Now, in microseconds since 1970 (UTC).
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
