//! What the door answers by itself, without the engine.

use crate::postgres::command::Command;
use crate::postgres::reply::{self, Described, Status};
use crate::postgres::settings::Outcome;
use crate::postgres::types;

use super::{Connection, Done};

impl Connection<'_> {
    /// What the door answers by itself; with its columns where nobody has described them.
    pub(super) fn command(&mut self, command: &Command, simple: bool) -> Done {
        if !command.ends_transaction() {
            self.in_order()?;
        }
        let mut outcome = None;
        let tag = match command {
            Command::Begin(tag) => {
                self.status = Status::Transaction;
                tag
            }
            Command::Commit | Command::Rollback => {
                let failed = self.status == Status::Failed;
                self.status = Status::Idle;
                let commits = !failed && *command == Command::Commit;
                if commits {
                    self.hold_cursors();
                }
                self.end_portals();
                if commits { "COMMIT" } else { "ROLLBACK" }
            }
            Command::RollbackTo => {
                if self.status == Status::Failed {
                    self.status = Status::Transaction;
                }
                "ROLLBACK"
            }
            Command::Savepoint => "SAVEPOINT",
            Command::Release => "RELEASE",
            Command::Set { name, value } => {
                outcome = Some((name.as_str(), self.settings.set(name, value)?));
                "SET"
            }
            Command::SetTransaction => "SET",
            Command::Reset(Some(name)) => {
                outcome = Some((name.as_str(), self.settings.reset(name)?));
                "RESET"
            }
            Command::Reset(None) => {
                self.settings.reset_all();
                "RESET"
            }
            Command::Show(name) => {
                self.show(name.as_deref(), simple)?;
                "SHOW"
            }
            Command::Discard(all) => {
                if *all {
                    self.settings.reset_all();
                    self.statements.clear();
                    self.portals.clear();
                }
                if *all { "DISCARD ALL" } else { "DISCARD" }
            }
            Command::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.statements.remove(name);
                "DEALLOCATE"
            }
            Command::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Command::Close(name) => self.close_cursor(name.as_deref())?,
            Command::Nothing(tag) => tag,
            // They wait for the engine, and are answered where that is done.
            Command::Declare(_) | Command::Fetch { .. } => return Ok(()),
        };
        match outcome {
            Some((_, Outcome::Set(Some(name)))) => {
                let value = self.settings.get(name).unwrap_or_default();
                reply::parameter(&mut self.wire.out, name, value);
            }
            Some((_, Outcome::Stays(report))) => reply::notice(&mut self.wire.out, &report),
            Some((_, Outcome::Set(None))) | None => {}
        }
        reply::complete(&mut self.wire.out, tag);
        Ok(())
    }

    fn show(&mut self, name: Option<&str>, describe: bool) -> Done {
        let columns = shown(&Command::Show(name.map(str::to_owned))).unwrap_or_default();
        let rows: Vec<Vec<&str>> = match name {
            Some(name) => vec![vec![self.settings.show(name)?]],
            None => self.settings.all().map(|(name, value)| vec![name, value, ""]).collect(),
        };
        if describe {
            reply::columns(&mut self.wire.out, &texts(&columns), &[]);
        }
        for row in rows {
            reply::texts(&mut self.wire.out, &row);
        }
        Ok(())
    }
}

/// The columns that a command answers with.
pub(super) fn shown(command: &Command) -> Option<Vec<String>> {
    match command {
        Command::Show(Some(name)) => Some(vec![name.to_ascii_lowercase()]),
        Command::Show(None) => Some(["name", "setting", "description"].map(str::to_owned).to_vec()),
        _ => None,
    }
}

pub(super) fn texts(names: &[String]) -> Vec<Described> {
    names.iter().map(|name| Described { name: name.clone(), kind: types::TEXT }).collect()
}

/// What was done, as clients know it.
pub(super) fn tag(sql: &str, count: u64) -> String {
    let verb = sql.trim_start().split(|character: char| !character.is_ascii_alphabetic()).next();
    match verb.unwrap_or_default().to_ascii_uppercase().as_str() {
        "EXPLAIN" => "EXPLAIN".to_owned(),
        "SHOW" | "DESCRIBE" | "DESC" => "SHOW".to_owned(),
        _ => format!("SELECT {count}"),
    }
}
