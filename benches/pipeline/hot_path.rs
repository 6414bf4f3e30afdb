//! The gateway's side: filling a draft and appending it to the spool.

use crate::measure::thread_ns;
use crate::traffic::Traffic;
use event::Draft;
use event::layout::DataFolder;
use event::spool::{Spool, SpoolConfig, Writer};
use std::time::{Duration, Instant};

/// Events between two looks at the clocks and at the spool's room: less than a segment holds.
const CHUNK: u64 = 1_000;

/// A spool of one core that has room for everything.
pub fn open(folder: &DataFolder) -> Result<(Spool, Writer), String> {
    let config = SpoolConfig { bytes_max: 16 << 30, ..SpoolConfig::default() };
    let opened = Spool::open(&config, &folder.spool(), "bench", 1);
    let (spool, mut writers) = opened.map_err(|error| error.to_string())?;
    Ok((spool, writers.remove(0)))
}

/// The gateway's thread.
pub struct Gateway {
    writer: Writer,
    draft: Draft,
    last_sequence: u64,
    /// Segments taken into use.
    segments: usize,
    /// CPU time of filling and appending, in nanoseconds.
    pub spent_ns: u64,
}

impl Gateway {
    pub fn new(writer: Writer) -> Self {
        Self { writer, draft: Draft::new(), last_sequence: 0, segments: 0, spent_ns: 0 }
    }

    /// Records requests. Making them up is not part of the time.
    pub fn record(&mut self, traffic: &Traffic, numbers: std::ops::Range<u64>) -> Result<(), String> {
        let requests: Vec<_> = numbers.map(|number| traffic.request(number)).collect();
        let begun = thread_ns();
        for request in &requests {
            request.fill(&mut self.draft);
            match self.writer.append(&self.draft) {
                Ok(sequence) => {
                    self.segments += usize::from(sequence != self.last_sequence + 1);
                    self.last_sequence = sequence;
                }
                Err(reason) => return Err(format!("an event was dropped: {}", reason.as_str())),
            }
        }
        self.spent_ns += thread_ns() - begun;
        Ok(())
    }

    /// Records `events` requests while no collector runs. Between two chunks it waits until the keeper has a segment
    /// ready, as it always has at the pace of a gateway.
    pub fn record_all(&mut self, folder: &DataFolder, traffic: &Traffic, events: u64) -> Result<(), String> {
        for first in (0..events).step_by(CHUNK as usize) {
            self.wait_for_spare(folder)?;
            self.record(traffic, first..events.min(first + CHUNK))?;
        }
        Ok(())
    }

    fn wait_for_spare(&self, folder: &DataFolder) -> Result<(), String> {
        let lane = folder.spool().join("core-000");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let entries = std::fs::read_dir(&lane).map_err(|error| error.to_string())?.flatten();
            let made = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "seg"));
            // One more than is handed over: a file shows before it is ready.
            if made.count() >= self.segments + 2 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("the spool lays no segment ready".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
