//! A connection that may ask: messages in their order, what is prepared, and answers in parts.

mod cursor;

mod extended;

mod obey;

use std::collections::HashMap;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use datafusion::common::ScalarValue;

use super::cancel::Key;
use super::command::{self, Command};
use super::encode::{Rows, Scratch};
use super::message::{Message, Target};
use super::reply::{self, Described, Status};
use super::settings::Settings;
use super::sqlstate::Report;
use super::start::Started;
use super::wire::{OUT_BYTES, Stop, Wire};
use super::{FAREWELL, Shared, types};
use crate::access::Caller;
use crate::error::QueryError;
use crate::query::{Answer, Protocol, Question};
use obey::tag;

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
    /// What it is as a cursor of SQL; none of the extended protocol's own.
    cursor: Option<Hold>,
    state: State,
}

/// What a cursor outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing: it ends with its transaction.
    Nothing,
    /// `WITH HOLD`, as long as the transaction that declared it goes on: its commit.
    Commit,
    /// `WITH HOLD` after that: all transactions.
    Everything,
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
                self.end_portals();
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
        // Several statements are a transaction of their own.
        let several = parts.len() > 1;
        for (at, sql, command) in parts {
            let done = match command {
                Some(Command::Declare(declared)) => self.declare(&declared, Vec::new(), several).await,
                Some(Command::Fetch { cursor, rows_max }) => match self.describe_cursor(&cursor, None) {
                    Ok(()) => self.fetch(&cursor, rows_max, None).await,
                    failed => failed,
                },
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
        if self.status == Status::Idle {
            self.end_portals();
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
                Some(rows) if rows.next < rows.count => {
                    rows.show_as(formats);
                    rows
                }
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
}
