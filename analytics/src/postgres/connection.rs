//! A connection that may ask: messages in their order, what is prepared, and answers in parts.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::common::ScalarValue;

use super::cancel::Key;
use super::command::{self, Command};
use super::encode::{Rows, Scratch};
use super::message::{Message, Target};
use super::reply::{self, Described, Status};
use super::settings::{Outcome, Settings};
use super::sqlstate::Report;
use super::start::Started;
use super::wire::{OUT_BYTES, Stop, Wire};
use super::{FAREWELL, Shared, params, types};
use crate::access::Caller;
use crate::error::QueryError;
use crate::query::{Answer, Protocol, Question};

/// What a prepared statement or portal takes beside its text, in bytes.
const PREPARED_BYTES: usize = 512;

/// What a text says.
#[derive(Debug, Clone)]
enum Says {
    Nothing,
    Command(Command),
    Question,
}

/// A prepared statement.
struct Prepared {
    sql: String,
    says: Says,
    /// Types of parameters that the client named; 0 for those that it left open.
    types: Vec<u32>,
    /// Types of all parameters, and the columns; once somebody has asked.
    described: OnceLock<(Vec<u32>, Vec<Described>)>,
}

impl Prepared {
    fn bytes(&self) -> usize {
        PREPARED_BYTES + self.sql.len() + 4 * self.types.len()
    }
}

/// A statement with its parameters.
struct Portal {
    prepared: Arc<Prepared>,
    params: Vec<ScalarValue>,
    formats: Vec<i16>,
    bytes: usize,
    state: State,
}

enum State {
    Bound,
    Running(Box<Running>),
    Done,
    /// It has come to its end while nobody fetched from it.
    Failed(Report),
}

/// An answer that is being fetched.
struct Running {
    answer: Answer,
    columns: Vec<Described>,
    rows: Option<Rows>,
    deadline: Instant,
}

/// Why a statement goes no further.
enum Halt {
    /// The client is told, and the connection goes on.
    Report(Report),
    /// The connection ends.
    Stop(Stop),
}

impl From<Report> for Halt {
    fn from(report: Report) -> Self {
        if report.is_fatal() { Self::Stop(Stop::Fatal(report)) } else { Self::Report(report) }
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Done = Result<(), Halt>;

struct Connection<'a> {
    wire: Wire,
    shared: &'a Shared,
    caller: Arc<Caller>,
    settings: Settings,
    peer: SocketAddr,
    key: Key,
    status: Status,
    /// After an error of the extended protocol, until the next Sync.
    skipping: bool,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    scratch: Scratch,
}

/// Answers a client until it goes.
pub(super) async fn run(started: Started, peer: SocketAddr, shared: &Shared) {
    let Started { mut wire, caller, settings } = started;
    wire.allow(shared.bytes_max);
    let mut connection = Connection {
        wire,
        shared,
        caller,
        settings,
        peer,
        key: shared.keys.add(),
        status: Status::Idle,
        skipping: false,
        statements: HashMap::new(),
        portals: HashMap::new(),
        scratch: Scratch::default(),
    };
    let stop = match connection.greet().await {
        Ok(()) => connection.serve().await,
        Err(stop) => stop,
    };
    let Connection { mut wire, .. } = connection;
    if let Stop::Fatal(report) = &stop {
        reply::error(&mut wire.out, report);
    }
    let _late = tokio::time::timeout(FAREWELL, wire.close()).await;
}

/// Awaits work on the wire's behalf: until the client cancels it, its time is up, or the client goes.
async fn race<T>(
    wire: &mut Wire,
    key: &Key,
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let cancelled = key.begin();
    let late = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => pending().await,
        }
    };
    let result = tokio::select! {
        done = work => Ok(done),
        () = cancelled.cancelled() => Err(Report::error("57014", "canceling statement due to user request").into()),
        () = late => Err(Report::error("57014", "canceling statement due to statement timeout").into()),
        () = wire.gone() => Err(Halt::Stop(Stop::Gone)),
    };
    key.end();
    result
}

impl Connection<'_> {
    async fn greet(&mut self) -> Result<(), Stop> {
        let out = &mut self.wire.out;
        reply::authentication_ok(out);
        for (name, value) in self.settings.reported() {
            reply::parameter(out, name, value);
        }
        reply::parameter(out, "session_authorization", &self.caller.name);
        reply::key(out, self.key.id, self.key.secret);
        reply::ready(out, self.status);
        self.wire.flush().await
    }

    /// Message after message. Why it ends.
    async fn serve(&mut self) -> Stop {
        loop {
            let handled = match self.next().await {
                Ok(Ok(Message::Terminate)) => return Stop::Gone,
                Ok(Ok(message)) => self.handle(message).await,
                Ok(Err((kind, report))) => self.refuse(report, kind != b'Q').await,
                Err(stop) => return stop,
            };
            if let Err(stop) = handled {
                return stop;
            }
        }
    }

    /// The next message, with an eye on answers whose time is up and on the end of the service.
    async fn next(&mut self) -> Result<Result<Message, (u8, Report)>, Stop> {
        let silent = Instant::now() + Duration::from_millis(self.shared.config.idle_timeout_ms.into());
        loop {
            let deadlines = self.portals.values().filter_map(|portal| match &portal.state {
                State::Running(running) => Some(running.deadline),
                _ => None,
            });
            let next = deadlines.min().map_or(silent, |deadline| deadline.min(silent));
            tokio::select! {
                message = self.wire.message() => return message,
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.shared.stopping.cancelled() => {
                    let text = "terminating connection due to administrator command";
                    return Err(Stop::Fatal(Report::fatal("57P01", text)));
                }
            }
            if Instant::now() >= silent {
                let text = "terminating connection due to idle-session timeout";
                return Err(Stop::Fatal(Report::fatal("57P05", text)));
            }
            self.expire();
        }
    }

    /// Ends answers whose time is up: their turns are for others.
    fn expire(&mut self) {
        let now = Instant::now();
        for portal in self.portals.values_mut() {
            if let State::Running(running) = &mut portal.state
                && running.deadline <= now
            {
                let error = running.answer.timed_out();
                portal.state = State::Failed(Report::of(&error, &portal.prepared.sql));
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Result<(), Stop> {
        if let Message::Sync = message {
            self.skipping = false;
            if self.status == Status::Idle {
                self.portals.clear();
            }
            return self.ready().await;
        }
        if self.skipping {
            return Ok(());
        }
        let simple = matches!(message, Message::Query(_) | Message::FunctionCall);
        let done = match message {
            Message::Query(text) => self.query(&text).await,
            Message::Parse { name, sql, types } => self.parse(name, sql, types),
            Message::Bind { portal, statement, formats, params, results } => {
                self.bind(portal, &statement, &formats, params, results).await
            }
            Message::Describe(Target::Statement, name) => self.describe_statement(&name).await,
            Message::Describe(Target::Portal, name) => self.describe_portal(&name).await,
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Message::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                reply::closed(&mut self.wire.out);
                Ok(())
            }
            Message::Flush => self.wire.flush().await.map_err(Halt::Stop),
            Message::FunctionCall => Err(Report::error("0A000", "function calls are not answered").into()),
            // What is left of a COPY that was refused.
            Message::Copy => Ok(()),
            Message::Password(_) => Err(Report::fatal("08P01", "a password is not asked for").into()),
            Message::Sync | Message::Terminate => Ok(()),
        };
        match done {
            Ok(()) if simple => self.ready().await,
            Ok(()) if self.wire.out.len() > OUT_BYTES => self.wire.flush().await,
            Ok(()) => Ok(()),
            Err(Halt::Report(report)) => self.refuse(report, !simple).await,
            Err(Halt::Stop(stop)) => Err(stop),
        }
    }

    /// Tells an error. In the extended protocol the client's next words were said without knowing of it.
    async fn refuse(&mut self, report: Report, extended: bool) -> Result<(), Stop> {
        reply::error(&mut self.wire.out, &report);
        if self.status == Status::Transaction {
            self.status = Status::Failed;
        }
        self.skipping = extended;
        if extended { self.wire.flush().await } else { self.ready().await }
    }

    async fn ready(&mut self) -> Result<(), Stop> {
        reply::ready(&mut self.wire.out, self.status);
        self.wire.flush().await
    }

    /// The simple protocol: a text, of which at most one statement is a question.
    async fn query(&mut self, text: &str) -> Done {
        self.statements.remove("");
        self.portals.remove("");
        let statements = command::split(text);
        if statements.is_empty() {
            reply::empty_query(&mut self.wire.out);
            return Ok(());
        }
        let mut parts = Vec::with_capacity(statements.len());
        for (at, sql) in &statements {
            parts.push((*at, *sql, command::parse(sql).transpose()?));
        }
        let questions = parts.iter().filter(|(.., command)| command.is_none()).count();
        if questions > 1 {
            // The engine says so, and keeps it in its history.
            return Err(self
                .ask(text, Vec::new())
                .await
                .err()
                .unwrap_or_else(|| Report::error("42601", "exactly one statement is allowed").into()));
        }
        for (at, sql, command) in parts {
            let done = match command {
                Some(command) => self.command(&command, true),
                None => self.answer(sql).await,
            };
            // A place is one of the whole text.
            done.map_err(|halt| match halt {
                Halt::Report(report) => {
                    let before = text[..at].chars().count() as u64;
                    Halt::Report(Report {
                        position: report.position.map(|position| position + before),
                        ..report
                    })
                }
                halt => halt,
            })?;
        }
        Ok(())
    }

    /// One question, answered whole as text.
    async fn answer(&mut self, sql: &str) -> Done {
        self.in_order()?;
        let mut running = self.ask(sql, Vec::new()).await?;
        reply::columns(&mut self.wire.out, &running.columns, &[]);
        let (count, _all) = self.send(&mut running, sql, &[], 0).await?;
        running.answer.finish();
        reply::complete(&mut self.wire.out, &tag(sql, count));
        Ok(())
    }

    /// Nothing is answered in a transaction that has failed.
    fn in_order(&self) -> Done {
        if self.status == Status::Failed {
            let text = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Report::error("25P02", text).into());
        }
        Ok(())
    }

    fn question(&self, sql: &str, params: Vec<ScalarValue>) -> Question {
        Question {
            sql: sql.to_owned(),
            params,
            caller: Arc::clone(&self.caller),
            protocol: Protocol::Postgresql,
            client: self.peer.to_string(),
        }
    }

    /// Begins to answer a question.
    async fn ask(&mut self, sql: &str, params: Vec<ScalarValue>) -> Result<Running, Halt> {
        let question = self.question(sql, params);
        let deadline = self.settings.statement_timeout().map(|timeout| Instant::now() + timeout);
        let asked = race(&mut self.wire, &self.key, deadline, self.shared.engine.ask(question)).await?;
        let answer = asked.map_err(|error| Halt::Report(Report::of(&error, sql)))?;
        if !answer.quarantined.is_empty() {
            let files: Vec<&str> = answer.quarantined.iter().map(|bad| bad.path.as_str()).collect();
            let text = format!("rows are missing: files cannot be read: {}", files.join(", "));
            reply::notice(&mut self.wire.out, &Report::warning("01000", text));
        }
        let columns = types::describe(&answer.schema, sql);
        let deadline = deadline.map_or(answer.deadline(), |deadline| deadline.min(answer.deadline()));
        Ok(Running { answer, columns, rows: None, deadline })
    }

    /// Sends rows, up to so many or all (0): how many they were, and whether that was the end.
    async fn send(
        &mut self,
        running: &mut Running,
        sql: &str,
        formats: &[i16],
        rows_max: u32,
    ) -> Result<(u64, bool), Halt> {
        let report = |error: &QueryError| Halt::Report(Report::of(error, sql));
        let mut count = 0;
        loop {
            let rows = match &mut running.rows {
                Some(rows) if rows.next < rows.count => rows,
                rows => {
                    let next = running.answer.next();
                    let batch = race(&mut self.wire, &self.key, Some(running.deadline), next).await?;
                    let Some(batch) = batch.map_err(|error| report(&error))? else {
                        return Ok((count, true));
                    };
                    let encoded = Rows::new(&batch, &running.columns, formats).map_err(|error| {
                        let error = QueryError::from(error);
                        running.answer.fail(&error);
                        report(&error)
                    })?;
                    rows.insert(encoded)
                }
            };
            let before = self.wire.out.len();
            while rows.next < rows.count && self.wire.out.len() < OUT_BYTES {
                if rows_max > 0 && count >= u64::from(rows_max) {
                    break;
                }
                rows.write(&mut self.wire.out, &mut self.scratch);
                count += 1;
            }
            running.answer.sent((self.wire.out.len() - before) as u64);
            if self.wire.out.len() >= OUT_BYTES {
                self.deliver(running.deadline).await?;
            }
            if rows_max > 0 && count >= u64::from(rows_max) {
                return Ok((count, false));
            }
        }
    }

    /// Sends what was gathered, to a client that reads.
    async fn deliver(&mut self, deadline: Instant) -> Done {
        let cancelled = self.key.begin();
        let sent = tokio::select! {
            sent = self.wire.flush() => sent.map_err(Halt::Stop),
            () = cancelled.cancelled() => Err(Report::error("57014", "canceling statement due to user request").into()),
            () = tokio::time::sleep_until(deadline.into()) => {
                Err(Report::error("57014", "canceling statement due to statement timeout").into())
            }
        };
        self.key.end();
        sent
    }

    fn parse(&mut self, name: String, sql: String, types: Vec<u32>) -> Done {
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

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, Halt> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| {
            Report::error("26000", format!("prepared statement \"{name}\" does not exist")).into()
        })
    }

    async fn bind(
        &mut self,
        portal: String,
        statement: &str,
        formats: &[i16],
        values: Vec<Option<Bytes>>,
        results: Vec<i16>,
    ) -> Done {
        let prepared = self.statement(statement)?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(Report::error("42P03", format!("cursor \"{portal}\" already exists")).into());
        }
        self.portals.remove(&portal);
        if self.portals.len() >= usize::from(self.shared.config.portals_max) {
            let text = format!("more than {} portals at one time", self.shared.config.portals_max);
            let hint = "close some, or end the transaction; analytics.postgres.portals_max is the most";
            return Err(Report::error("53200", text).hint(hint).into());
        }
        let fits = |formats: &[i16], count: usize| formats.len() <= 1 || formats.len() == count;
        if !fits(formats, values.len()) {
            return Err(Report::fatal("08P01", "as many formats as parameters are wanted").into());
        }
        let open = |index: usize| prepared.types.get(index).is_none_or(|oid| *oid == 0);
        let unknown = (0..values.len()).any(|index| open(index) && reply::format_of(formats, index) == 1);
        if unknown {
            // Binary has no meaning without a type.
            self.described(&prepared).await?;
        }
        let known = prepared.described.get().map(|(params, _)| params.as_slice()).unwrap_or_default();
        let bytes: usize = values.iter().flatten().map(|value| value.len() + 64).sum();
        self.room(PREPARED_BYTES + portal.len() + bytes)?;
        let params = values.into_iter().enumerate().map(|(index, value)| {
            let named = prepared.types.get(index).copied().unwrap_or(0);
            let format = reply::format_of(formats, index);
            // Text of a type that the client has not named takes that of its place when the plan is made.
            let oid = if named == 0 && format == 1 { known.get(index).copied().unwrap_or(0) } else { named };
            params::value(oid, format, value)
        });
        let params = params.collect::<Result<Vec<_>, Report>>()?;
        let bytes = PREPARED_BYTES + portal.len() + bytes;
        let bound = Portal { prepared, params, formats: results, bytes, state: State::Bound };
        self.portals.insert(portal, bound);
        reply::bound(&mut self.wire.out);
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

    async fn describe_statement(&mut self, name: &str) -> Done {
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
                self.describe_command(command, &[]);
            }
            Says::Nothing => {
                reply::parameters(&mut self.wire.out, &[]);
                reply::no_data(&mut self.wire.out);
            }
        }
        Ok(())
    }

    async fn describe_portal(&mut self, name: &str) -> Done {
        let portal = self.portal(name)?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        match &prepared.says {
            Says::Question => {
                // It is run next, so it may begin now; its columns are known for sure then.
                self.begin(name).await?;
                if let Some(Portal { state: State::Running(running), .. }) = self.portals.get(name) {
                    reply::columns(&mut self.wire.out, &running.columns, &formats);
                }
            }
            Says::Command(command) => self.describe_command(command, &formats),
            Says::Nothing => reply::no_data(&mut self.wire.out),
        }
        Ok(())
    }

    fn describe_command(&mut self, command: &Command, formats: &[i16]) {
        match shown(command) {
            Some(names) => reply::columns(&mut self.wire.out, &texts(&names), formats),
            None => reply::no_data(&mut self.wire.out),
        }
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal, Halt> {
        let found = self.portals.get_mut(name);
        found.ok_or_else(|| Report::error("34000", format!("portal \"{name}\" does not exist")).into())
    }

    /// Begins to answer what is bound, if that is not done yet.
    async fn begin(&mut self, name: &str) -> Done {
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

    async fn execute(&mut self, name: &str, rows_max: u32) -> Done {
        let portal = self.portal(name)?;
        let prepared = Arc::clone(&portal.prepared);
        match &prepared.says {
            Says::Nothing => {
                reply::empty_query(&mut self.wire.out);
                return Ok(());
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

    /// What the door answers by itself; with its columns where nobody has described them.
    fn command(&mut self, command: &Command, simple: bool) -> Done {
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
                self.portals.clear();
                if failed || *command == Command::Rollback { "ROLLBACK" } else { "COMMIT" }
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
            Command::Nothing(tag) => tag,
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
fn shown(command: &Command) -> Option<Vec<String>> {
    match command {
        Command::Show(Some(name)) => Some(vec![name.to_ascii_lowercase()]),
        Command::Show(None) => Some(["name", "setting", "description"].map(str::to_owned).to_vec()),
        _ => None,
    }
}

fn texts(names: &[String]) -> Vec<Described> {
    names.iter().map(|name| Described { name: name.clone(), kind: types::TEXT }).collect()
}

/// What was done, as clients know it.
fn tag(sql: &str, count: u64) -> String {
    let verb = sql.trim_start().split(|character: char| !character.is_ascii_alphabetic()).next();
    match verb.unwrap_or_default().to_ascii_uppercase().as_str() {
        "EXPLAIN" => "EXPLAIN".to_owned(),
        "SHOW" | "DESCRIBE" | "DESC" => "SHOW".to_owned(),
        _ => format!("SELECT {count}"),
    }
}
