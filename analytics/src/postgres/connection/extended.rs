//! The extended protocol: what is prepared, bound, described and executed (PostgreSQL documentation, 54.2.3).

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::postgres::command::{self, Command};
use crate::postgres::reply::{self};
use crate::postgres::sqlstate::Report;
use crate::postgres::{params, types};

use super::obey::{shown, tag, texts};
use super::{Connection, Done, Halt, PREPARED_BYTES, Portal, Prepared, Says, State, race};

impl Connection<'_> {
    pub(super) fn parse(&mut self, name: String, sql: String, types: Vec<u32>) -> Done {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Report::error("42P05", text).into());
        }
        let statements = command::split(&sql);
        let says = match statements.as_slice() {
            [] => Says::Nothing,
            [(_, one)] => match command::parse(one).transpose()? {
                Some(command) => Says::Command(command),
                None => Says::Question,
            },
            _ => Says::Question,
        };
        if let Says::Question = says {
            self.in_order()?;
            let checked = self.shared.engine.check(&self.question(&sql, Vec::new()));
            checked.map_err(|error| Report::of(&error, &sql))?;
        }
        let prepared = Prepared { sql, says, types, described: OnceLock::new() };
        self.statements.remove(&name);
        self.room(prepared.bytes() + name.len())?;
        self.statements.insert(name, Arc::new(prepared));
        reply::parsed(&mut self.wire.out);
        Ok(())
    }

    /// Whether so much more may be kept.
    fn room(&self, bytes: usize) -> Done {
        let statements: usize =
            self.statements.iter().map(|(name, prepared)| name.len() + prepared.bytes()).sum();
        let portals: usize = self.portals.values().map(|portal| portal.bytes).sum();
        let most = self.shared.config.prepared_bytes_max;
        if statements + portals + bytes > usize::try_from(most).unwrap_or(usize::MAX) {
            let text = format!("prepared statements and their parameters take more than {most} bytes");
            let hint =
                "DEALLOCATE those that are not needed; analytics.postgres.prepared_bytes_max is the most";
            return Err(Report::error("53200", text).hint(hint).into());
        }
        Ok(())
    }

    pub(super) fn statement(&self, name: &str) -> Result<Arc<Prepared>, Halt> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| {
            Report::error("26000", format!("prepared statement \"{name}\" does not exist")).into()
        })
    }

    pub(super) async fn bind(
        &mut self,
        portal: String,
        statement: &str,
        formats: &[i16],
        values: Vec<Option<Bytes>>,
        results: Vec<i16>,
    ) -> Done {
        let prepared = self.statement(statement)?;
        let fits = |formats: &[i16], count: usize| formats.len() <= 1 || formats.len() == count;
        if !fits(formats, values.len()) {
            return Err(Report::fatal("08P01", "as many formats as parameters are wanted").into());
        }
        let open = |index: usize| prepared.types.get(index).is_none_or(|oid| *oid == 0);
        let unknown = (0..values.len()).any(|index| open(index) && reply::format_of(formats, index) == 1);
        if unknown && matches!(prepared.says, Says::Question) {
            // Binary has no meaning without a type.
            self.described(&prepared).await?;
        }
        let known = prepared.described.get().map(|(params, _)| params.as_slice()).unwrap_or_default();
        let bytes: usize = values.iter().flatten().map(|value| value.len() + 64).sum();
        let params = values.into_iter().enumerate().map(|(index, value)| {
            let named = prepared.types.get(index).copied().unwrap_or(0);
            let format = reply::format_of(formats, index);
            // Text of a type that the client has not named takes that of its place when the plan is made.
            let oid = if named == 0 && format == 1 { known.get(index).copied().unwrap_or(0) } else { named };
            params::value(oid, format, value)
        });
        let params = params.collect::<Result<Vec<_>, Report>>()?;
        let bytes = PREPARED_BYTES + portal.len() + bytes;
        let bound = Portal { prepared, params, formats: results, bytes, cursor: None, state: State::Bound };
        self.open(portal, bound)?;
        reply::bound(&mut self.wire.out);
        Ok(())
    }

    /// Opens a portal, if there is room for it.
    pub(super) fn open(&mut self, name: String, portal: Portal) -> Done {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(Report::error("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        self.portals.remove(&name);
        if self.portals.len() >= usize::from(self.shared.config.portals_max) {
            let text = format!("more than {} portals at one time", self.shared.config.portals_max);
            let hint = "close some, or end the transaction; analytics.postgres.portals_max is the most";
            return Err(Report::error("53200", text).hint(hint).into());
        }
        self.room(portal.bytes)?;
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Finds out what parameters and columns a statement has.
    async fn described(&mut self, prepared: &Arc<Prepared>) -> Done {
        if prepared.described.get().is_some() {
            return Ok(());
        }
        self.in_order()?;
        let question = self.question(&prepared.sql, Vec::new());
        let named = prepared.types.iter().map(|oid| params::value(*oid, 0, None).ok()).collect();
        let deadline = self.settings.statement_timeout().map(|timeout| Instant::now() + timeout);
        let describe = self.shared.engine.describe(question, named);
        let described = race(&mut self.wire, &self.key, deadline, describe).await?;
        let described = described.map_err(|error| Halt::Report(Report::of(&error, &prepared.sql)))?;
        let oid = |index: usize, kind: &Option<arrow::datatypes::DataType>| {
            let named = prepared.types.get(index).copied().filter(|oid| *oid != 0);
            named.unwrap_or_else(|| kind.as_ref().map_or(types::TEXT, types::of).oid)
        };
        let params = described.params.iter().enumerate().map(|(index, kind)| oid(index, kind)).collect();
        // Somebody else cannot have been faster: a connection does one thing at a time.
        let _first = prepared.described.set((params, types::describe(&described.schema, &prepared.sql)));
        Ok(())
    }

    pub(super) async fn describe_statement(&mut self, name: &str) -> Done {
        let prepared = self.statement(name)?;
        match &prepared.says {
            Says::Question => {
                self.described(&prepared).await?;
                let Some((params, columns)) = prepared.described.get() else { return Ok(()) };
                reply::parameters(&mut self.wire.out, params);
                reply::columns(&mut self.wire.out, columns, &[]);
            }
            Says::Command(command) => {
                reply::parameters(&mut self.wire.out, &[]);
                self.describe_command(command, &[])?;
            }
            Says::Nothing => {
                reply::parameters(&mut self.wire.out, &[]);
                reply::no_data(&mut self.wire.out);
            }
        }
        Ok(())
    }

    pub(super) async fn describe_portal(&mut self, name: &str) -> Done {
        let portal = self.portal(name)?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        match &prepared.says {
            Says::Question => {
                // It is run next, so it may begin now; its columns are known for sure then.
                self.begin(name).await?;
                match (self.portals.get(name).map(|portal| &portal.state), prepared.described.get()) {
                    (Some(State::Running(running)), _) => {
                        reply::columns(&mut self.wire.out, &running.columns, &formats);
                    }
                    (_, Some((_, columns))) => reply::columns(&mut self.wire.out, columns, &formats),
                    (_, None) => reply::no_data(&mut self.wire.out),
                }
            }
            Says::Command(command) => self.describe_command(command, &formats)?,
            Says::Nothing => reply::no_data(&mut self.wire.out),
        }
        Ok(())
    }

    fn describe_command(&mut self, command: &Command, formats: &[i16]) -> Done {
        if let Command::Fetch { cursor, .. } = command {
            return self.describe_cursor(cursor, Some(formats));
        }
        match shown(command) {
            Some(names) => reply::columns(&mut self.wire.out, &texts(&names), formats),
            None => reply::no_data(&mut self.wire.out),
        }
        Ok(())
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal, Halt> {
        let found = self.portals.get_mut(name);
        found.ok_or_else(|| Report::error("34000", format!("portal \"{name}\" does not exist")).into())
    }

    /// Begins to answer what is bound, if that is not done yet.
    pub(super) async fn begin(&mut self, name: &str) -> Done {
        let portal = self.portal(name)?;
        if !matches!(portal.state, State::Bound) {
            return Ok(());
        }
        let (prepared, params) = (Arc::clone(&portal.prepared), portal.params.clone());
        self.in_order()?;
        let mut running = self.ask(&prepared.sql, params).await?;
        if let Some((_, columns)) = prepared.described.get() {
            if columns.len() != running.columns.len() {
                return Err(Report::error("0A000", "cached plan must not change result type").into());
            }
            running.columns.clone_from(columns);
        }
        self.portal(name)?.state = State::Running(Box::new(running));
        Ok(())
    }

    pub(super) async fn execute(&mut self, name: &str, rows_max: u32) -> Done {
        let portal = self.portal(name)?;
        let prepared = Arc::clone(&portal.prepared);
        match &prepared.says {
            Says::Nothing => {
                reply::empty_query(&mut self.wire.out);
                return Ok(());
            }
            Says::Command(Command::Fetch { cursor, rows_max }) => {
                let formats = portal.formats.clone();
                return self.fetch(cursor, *rows_max, Some(&formats)).await;
            }
            Says::Command(Command::Declare(declared)) => {
                let params = portal.params.clone();
                return self.declare(declared, params, false).await;
            }
            Says::Command(command) => return self.command(command, false),
            Says::Question => {}
        }
        self.begin(name).await?;
        let portal = self.portal(name)?;
        let formats = portal.formats.clone();
        let mut running = match std::mem::replace(&mut portal.state, State::Done) {
            State::Running(running) => running,
            State::Failed(report) => return Err(report.into()),
            State::Bound | State::Done => {
                reply::complete(&mut self.wire.out, &tag(&prepared.sql, 0));
                return Ok(());
            }
        };
        let (count, all) = self.send(&mut running, &prepared.sql, &formats, rows_max).await?;
        if all {
            running.answer.finish();
            reply::complete(&mut self.wire.out, &tag(&prepared.sql, count));
        } else {
            self.portal(name)?.state = State::Running(running);
            reply::suspended(&mut self.wire.out);
        }
        Ok(())
    }
}
