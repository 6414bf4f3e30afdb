//! A connection to one receiver.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, PutResult};
use event::layout::LayoutError;
use futures::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use super::config::{ForwardConfig, parse};
use super::wire::{BEGIN, Begin, Begun, VERSION, chain};

/// How often an idle connection is asked whether the other end is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a receiver takes nothing at present.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The receiver said no.
    #[error("refused with {code:?}: {message}")]
    Refused {
        /// The kind of no.
        code: tonic::Code,
        /// Its words.
        message: String,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came in time.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// A batch is too large for the receiver.
    #[error(
        "a batch has a message of {bytes} bytes and the receiver takes {most}: raise its collector.receive.batch_bytes_max, \
         or lower collector.batch_rows_max here"
    )]
    TooLarge {
        /// Of the largest message.
        bytes: u64,
        /// What it takes.
        most: u64,
    },
    /// What it said cannot be understood.
    #[error("{0}: the receiver is no Tollhouse of this version")]
    Protocol(String),
    /// What must be noted first cannot be.
    #[error(transparent)]
    Notes(#[from] LayoutError),
}

impl Failure {
    /// A word for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Refused { .. } => "refused",
            Self::Broken(_) => "broken",
            Self::Timeout(_) => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::Protocol(_) => "protocol",
            Self::Notes(_) => "disk",
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        // A connection that broke has an error of this process as its source; no receiver said that.
        match std::error::Error::source(&status) {
            Some(cause) => Self::Broken(chain(cause)),
            None => Self::Refused { code: status.code(), message: status.message().to_owned() },
        }
    }
}

/// An open connection.
pub(super) struct Link {
    client: FlightServiceClient<Channel>,
    token: MetadataValue<Ascii>,
    patience: Duration,
}

impl Link {
    /// Connects.
    pub(super) async fn open(config: &ForwardConfig, url: &str) -> Result<Self, Failure> {
        let timeout = Duration::from_millis(config.connect_timeout_ms.into());
        let connecting = tokio::time::timeout(timeout, connect(config, url));
        let channel = connecting.await.map_err(|_| Failure::Timeout(timeout.as_millis()))??;
        let token = MetadataValue::try_from(format!("Bearer {}", config.token.reveal()));
        let mut token = token.map_err(|_| Failure::Connect("the token cannot be sent".to_owned()))?;
        token.set_sensitive(true);
        let client = FlightServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { client, token, patience: Duration::from_millis(config.ack_timeout_ms.into()) })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// Begins a session.
    pub(super) async fn begin(&mut self, begin: &Begin) -> Result<Begun, Failure> {
        let body = serde_json::to_vec(begin).map_err(|error| Failure::Protocol(error.to_string()))?;
        let request = self.request(Action { r#type: BEGIN.to_owned(), body: body.into() });
        let asking = async {
            let mut answers = self.client.do_action(request).await?.into_inner();
            let answer = answers.message().await?;
            answer.ok_or_else(|| Failure::Protocol("no answer to the beginning of a session".to_owned()))
        };
        let answer = tokio::time::timeout(self.patience, asking).await;
        let answer = answer.map_err(|_| Failure::Timeout(self.patience.as_millis()))??;
        let begun: Begun =
            serde_json::from_slice(&answer.body).map_err(|error| Failure::Protocol(error.to_string()))?;
        if begun.version == VERSION {
            Ok(begun)
        } else {
            Err(Failure::Protocol(format!("it speaks version {}, this is {VERSION}", begun.version)))
        }
    }

    /// Opens a stream of batches; gives that of the acknowledgements.
    pub(super) async fn put(
        &mut self,
        batches: impl Stream<Item = FlightData> + Send + 'static,
    ) -> Result<Streaming<PutResult>, Failure> {
        let request = self.request(batches);
        let putting = tokio::time::timeout(self.patience, self.client.do_put(request));
        let answers = putting.await.map_err(|_| Failure::Timeout(self.patience.as_millis()))??;
        Ok(answers.into_inner())
    }
}

async fn connect(config: &ForwardConfig, url: &str) -> Result<Channel, Failure> {
    let failed = |error: tonic::transport::Error| Failure::Connect(chain(&error));
    let target = parse(url).ok_or_else(|| Failure::Connect("not a URL of a receiver".to_owned()))?;
    let timeout = Duration::from_millis(config.connect_timeout_ms.into());
    let mut endpoint = Endpoint::from_shared(target.http)
        .and_then(|endpoint| endpoint.user_agent(concat!("tollhouse/", env!("CARGO_PKG_VERSION"))))
        .map_err(failed)?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(Duration::from_millis(config.ack_timeout_ms.into()))
        .keep_alive_while_idle(true);
    if target.tls {
        // Read anew by each connection: an authority may be renewed meanwhile.
        let trust = match &config.ca_file {
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| Failure::Connect(format!("cannot read {}: {error}", path.display())))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_webpki_roots(),
        };
        endpoint = endpoint.tls_config(trust).map_err(failed)?;
    }
    endpoint.connect().await.map_err(failed)
}
