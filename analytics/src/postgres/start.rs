//! How a connection begins: TLS or not, who it is, what it is told.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::Shared;
use super::message::{Message, Opening};
use super::reply;
use super::scram::{Failure, MECHANISM};
use super::settings::Settings;
use super::sqlstate::Report;
use super::wire::{Socket, Stop, Wire, fatal};
use crate::access::Caller;

/// Messages before the start: TLS, GSSAPI, and each once more.
const OPENINGS_MAX: usize = 4;

/// A connection that may ask.
pub(super) struct Started {
    pub(super) wire: Wire,
    pub(super) caller: Arc<Caller>,
    pub(super) settings: Settings,
}

/// What became of a connection's start.
pub(super) enum Start {
    Open(Box<Started>),
    /// It has asked to cancel, and is done.
    Cancelled,
    /// It is not let in, and is told so on the way out.
    Refused(Wire, Report),
}

/// Hears a client until it may ask.
///
/// # Errors
/// When it has gone.
pub(super) async fn start(stream: Box<dyn Socket>, shared: &Shared) -> Result<Start, Stop> {
    let mut wire = Wire::new(stream);
    match open(&mut wire, shared).await {
        Ok(None) => Ok(Start::Cancelled),
        Ok(Some((caller, settings))) => Ok(Start::Open(Box::new(Started { wire, caller, settings }))),
        Err(Stop::Fatal(report)) => Ok(Start::Refused(wire, report)),
        Err(Stop::Gone) => Err(Stop::Gone),
    }
}

async fn open(wire: &mut Wire, shared: &Shared) -> Result<Option<(Arc<Caller>, Settings)>, Stop> {
    let mut secure = false;
    for _ in 0..OPENINGS_MAX {
        match wire.opening().await? {
            Opening::Cancel { id, secret } => {
                shared.keys.cancel(id, secret);
                return Ok(None);
            }
            Opening::Tls => match shared.tls.as_ref().filter(|_| !secure) {
                Some(acceptor) => {
                    wire.out.extend_from_slice(b"S");
                    wire.flush().await?;
                    let stream = acceptor.accept(wire.take_stream()?).await?;
                    *wire = Wire::new(Box::new(stream));
                    secure = true;
                }
                None => decline(wire).await?,
            },
            Opening::Gss => decline(wire).await?,
            Opening::Unknown(code) => {
                let (major, minor) = (code >> 16, code & 0xffff);
                let text = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0");
                return Err(Stop::Fatal(Report::fatal("0A000", text)));
            }
            Opening::Start { minor, params } => {
                if shared.tls.is_some() && !secure && !shared.allow_plaintext {
                    let report = Report::fatal("28000", "connections without TLS are refused");
                    return Err(Stop::Fatal(report.hint("sslmode=require, or better verify-full")));
                }
                return enter(wire, shared, minor, params).await.map(Some);
            }
        }
    }
    Err(Stop::Fatal(Report::fatal("08P01", "too many requests to negotiate encryption")))
}

async fn decline(wire: &mut Wire) -> Result<(), Stop> {
    wire.out.extend_from_slice(b"N");
    wire.flush().await
}

/// Looks at a start-up message, and lets the user in or not.
async fn enter(
    wire: &mut Wire,
    shared: &Shared,
    minor: u16,
    params: Vec<(String, String)>,
) -> Result<(Arc<Caller>, Settings), Stop> {
    let options: Vec<&str> =
        params.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
    if minor > 0 || !options.is_empty() {
        reply::negotiate(&mut wire.out, 0, &options);
    }
    let find = |wanted: &str| params.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let user = find("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Stop::Fatal(Report::fatal("28000", "no user name is given")))?;
    if find("replication").is_some_and(|value| !["false", "off", "no", "0"].contains(&value)) {
        return Err(Stop::Fatal(Report::fatal("0A000", "there is no replication")));
    }
    let caller = match shared.engine.access().anonymous() {
        Some(anybody) => anybody,
        None => prove(wire, shared, user).await?,
    };
    let mut settings = Settings::new();
    for (name, value) in &params {
        settings.start_with(name, value).map_err(|report| Stop::Fatal(fatal(report)))?;
    }
    Ok((caller, settings))
}

/// Asks for a proof that the client knows the secret of a user.
async fn prove(wire: &mut Wire, shared: &Shared, user: &str) -> Result<Arc<Caller>, Stop> {
    reply::authentication_sasl(&mut wire.out, MECHANISM);
    let (mechanism, first) =
        initial(password(wire).await?).ok_or_else(|| failed(user, Failure::Malformed))?;
    if mechanism != MECHANISM.as_bytes() {
        return Err(failed(user, Failure::Malformed));
    }
    let exchange = shared.users.begin(user, &first).map_err(|failure| failed(user, failure))?;
    reply::authentication_continue(&mut wire.out, &exchange.said);
    let last = password(wire).await?;
    let (caller, proof) = exchange.finish(&last).map_err(|failure| failed(user, failure))?;
    reply::authentication_final(&mut wire.out, &proof);
    Ok(caller)
}

async fn password(wire: &mut Wire) -> Result<Bytes, Stop> {
    wire.flush().await?;
    match wire.message().await? {
        Ok(Message::Password(data)) => Ok(data),
        Ok(Message::Terminate) => Err(Stop::Gone),
        Ok(_) => Err(Stop::Fatal(Report::fatal("08P01", "expected an answer of SASL"))),
        Err((_, report)) => Err(Stop::Fatal(fatal(report))),
    }
}

/// The first word of SASL: the mechanism, and what it is given.
fn initial(mut data: Bytes) -> Option<(Bytes, Bytes)> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let mechanism = data.split_to(end);
    data.advance(1);
    let length = data.split_to_checked(4)?.get_i32();
    (usize::try_from(length) == Ok(data.len())).then_some((mechanism, data))
}

/// Takes bytes off the front, if there are as many.
trait SplitChecked {
    fn split_to_checked(&mut self, count: usize) -> Option<Bytes>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, count: usize) -> Option<Bytes> {
        (self.len() >= count).then(|| self.split_to(count))
    }
}

fn failed(user: &str, failure: Failure) -> Stop {
    tracing::info!(user, %failure, "a client of PostgreSQL was not let in");
    Stop::Fatal(match failure {
        Failure::Wrong => {
            Report::fatal("28P01", format!("password authentication failed for user \"{user}\""))
        }
        Failure::Binding => Report::fatal("28000", failure.to_string()),
        Failure::Malformed => Report::fatal("08P01", failure.to_string()),
    })
}
