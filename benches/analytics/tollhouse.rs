//! Tollhouse's engine in this process, without the HTTP door.

use std::time::{Duration, Instant};

use analytics::AnalyticsConfig;
use analytics::query::{Protocol, Question};
use arrow::json::ArrayWriter;
use event::layout::DataFolder;
use serde_json::Value;

use crate::questions::{Answer, Cost, Engine};

/// The engine with a runtime of its own.
pub struct Tollhouse {
    engine: analytics::query::Engine,
    runtime: tokio::runtime::Runtime,
}

impl Tollhouse {
    /// `use_rollups` is whether questions may be answered from roll-ups.
    pub fn over(folder: &DataFolder, threads: u16, use_rollups: bool) -> Result<Self, String> {
        let config = AnalyticsConfig { threads, use_rollups, ..AnalyticsConfig::default() };
        let plan = analytics::validate(&config).map_err(|problems| format!("{problems:?}"))?;
        let engine = analytics::query::Engine::new(plan, folder).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.into())
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { engine, runtime })
    }
}

impl Tollhouse {
    /// Whether a question is answered from roll-ups.
    pub fn rolls(&mut self, sql: &str) -> Result<bool, String> {
        let plan = self.ask(&format!("EXPLAIN {sql}"))?;
        Ok(plan.rows.iter().flatten().any(|value| value.to_string().contains("rollups_")))
    }
}

impl Engine for Tollhouse {
    fn ask(&mut self, sql: &str) -> Result<Answer, String> {
        let (begun, cpu) = (Instant::now(), cpu_time());
        let question = Question {
            sql: sql.to_owned(),
            params: Vec::new(),
            caller: self.engine.anonymous().ok_or("the engine wants a token")?,
            protocol: Protocol::Http,
            client: "bench".into(),
        };
        let json = self.runtime.block_on(async {
            let mut writer = ArrayWriter::new(Vec::new());
            let mut answer = self.engine.ask(question).await?;
            while let Some(batch) = answer.next().await? {
                writer.write(&batch)?;
            }
            writer.finish()?;
            Ok::<_, analytics::query::QueryError>(writer.into_inner())
        });
        let json = json.map_err(|error| format!("{sql}: {error}"))?;
        let cost = Cost { wall: begun.elapsed(), cpu: cpu_time().saturating_sub(cpu) };
        let rows: Vec<serde_json::Map<String, Value>> =
            serde_json::from_slice(&json).map_err(|error| format!("{sql}: {error}"))?;
        let rows = rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect()).collect();
        Ok(Answer { rows, cost })
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into the struct that it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "this clock is there on Linux");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
