//! Cursors of SQL: a question under a name, fetched in parts. psql does so with `FETCH_COUNT`, psycopg with a named cursor.
//! They are portals that statements open and read (PostgreSQL documentation, DECLARE, FETCH, CLOSE), forward only.

use std::sync::{Arc, OnceLock};

use datafusion::common::ScalarValue;

use crate::postgres::command::Declared;
use crate::postgres::reply::{self, Status};
use crate::postgres::sqlstate::Report;

use super::{Connection, Done, Halt, Hold, Portal, Prepared, Says, State};

impl Connection<'_> {
    /// Opens a cursor, and begins to answer its question: what is wrong with that is said here. `several` statements of one
    /// text are a transaction.
    pub(super) async fn declare(
        &mut self,
        declared: &Declared,
        params: Vec<ScalarValue>,
        several: bool,
    ) -> Done {
        let Declared { name, sql, at, binary, hold } = declared;
        // A place is one of the whole statement.
        let placed = |report: Report| Report {
            position: report.position.map(|position| position + *at as u64),
            ..report
        };
        let checked = self.shared.engine.check(&self.question(sql, Vec::new()));
        checked.map_err(|error| placed(Report::of(&error, sql)))?;
        if self.status == Status::Idle && !hold && !several {
            let text = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Report::error("25P01", text).hint("BEGIN first, or declare it WITH HOLD").into());
        }
        let prepared = Prepared {
            sql: sql.clone(),
            says: Says::Question,
            types: Vec::new(),
            described: OnceLock::new(),
        };
        let bytes = prepared.bytes() + name.len() + params.iter().map(ScalarValue::size).sum::<usize>();
        let formats = if *binary { vec![1] } else { Vec::new() };
        let hold = match (hold, self.status) {
            (false, _) => Hold::Nothing,
            (true, Status::Idle) => Hold::Everything,
            (true, _) => Hold::Commit,
        };
        let (prepared, cursor, state) = (Arc::new(prepared), Some(hold), State::Bound);
        self.open(name.clone(), Portal { prepared, params, formats, bytes, cursor, state })?;
        let begun = self.begin(name).await;
        if let (Ok(()), Some(Portal { prepared, state: State::Running(running), .. })) =
            (&begun, self.portals.get(name))
        {
            // Asked for once more when all is fetched. Nobody else has described it.
            let _first = prepared.described.set((Vec::new(), running.columns.clone()));
            reply::complete(&mut self.wire.out, "DECLARE CURSOR");
            return Ok(());
        }
        self.portals.remove(name);
        begun.map_err(|halt| match halt {
            Halt::Report(report) => Halt::Report(placed(report)),
            halt => halt,
        })
    }

    /// The columns of a cursor, in formats that are asked for, or in its own.
    pub(super) fn describe_cursor(&mut self, name: &str, formats: Option<&[i16]>) -> Done {
        let Portal { prepared, formats: own, .. } = self.cursor(name)?;
        let (prepared, formats) =
            (Arc::clone(prepared), formats.map_or_else(|| own.clone(), <[i16]>::to_vec));
        if let Some((_, columns)) = prepared.described.get() {
            reply::columns(&mut self.wire.out, columns, &formats);
        }
        Ok(())
    }

    /// Sends the next rows of a cursor, up to so many; 0 is all.
    pub(super) async fn fetch(&mut self, name: &str, rows_max: u32, formats: Option<&[i16]>) -> Done {
        self.in_order()?;
        let Portal { prepared, formats: own, state, .. } = self.cursor(name)?;
        let (prepared, formats) =
            (Arc::clone(prepared), formats.map_or_else(|| own.clone(), <[i16]>::to_vec));
        let (count, state) = match std::mem::replace(state, State::Done) {
            State::Running(mut running) => {
                match self.send(&mut running, &prepared.sql, &formats, rows_max).await {
                    Ok((count, false)) => (Ok(count), State::Running(running)),
                    Ok((count, true)) => {
                        running.answer.finish();
                        (Ok(count), State::Done)
                    }
                    // What comes after an error is not what would have come.
                    Err(Halt::Report(report)) => (Err(report.clone()), State::Failed(report)),
                    Err(stop) => return Err(stop),
                }
            }
            State::Failed(report) => (Err(report.clone()), State::Failed(report)),
            State::Bound | State::Done => (Ok(0), State::Done),
        };
        self.cursor(name)?.state = state;
        reply::complete(&mut self.wire.out, &format!("FETCH {}", count?));
        Ok(())
    }

    /// Ends one, or all of them.
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<&'static str, Halt> {
        let Some(name) = name else {
            self.portals.retain(|_, portal| portal.cursor.is_none());
            return Ok("CLOSE CURSOR ALL");
        };
        self.cursor(name)?;
        self.portals.remove(name);
        Ok("CLOSE CURSOR")
    }

    /// At a commit: cursors `WITH HOLD` stay from now on.
    pub(super) fn hold_cursors(&mut self) {
        for hold in self.portals.values_mut().filter_map(|portal| portal.cursor.as_mut()) {
            if *hold == Hold::Commit {
                *hold = Hold::Everything;
            }
        }
    }

    /// At the end of a transaction: ends all portals that do not outlive it.
    pub(super) fn end_portals(&mut self) {
        self.portals.retain(|_, portal| portal.cursor == Some(Hold::Everything));
    }

    fn cursor(&mut self, name: &str) -> Result<&mut Portal, Halt> {
        let found = self.portals.get_mut(name).filter(|portal| portal.cursor.is_some());
        found.ok_or_else(|| Report::error("34000", format!("cursor \"{name}\" does not exist")).into())
    }
}
