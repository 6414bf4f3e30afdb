//! Takes batches from the queue, sends them, retries within bounds, and keeps the account.

use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tokio::sync::watch;

use super::capture::Captured;
use super::config::{OtlpConfig, OtlpProtocol};
use super::grpc::GrpcSender;
use super::http::HttpSender;
use super::span::{ResourceTemplate, request};
use super::{Account, Loss, Queue};

/// Why spans cannot be exported with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// Not an http or https URL.
    #[error("the endpoint is not an http or https URL")]
    Endpoint,
    /// A header that cannot be sent; its value is not repeated here.
    #[error("header {0} cannot be sent")]
    Header(String),
    /// The file with the authorities to trust.
    #[error("cannot read {}: {source}", path.display())]
    CaFile {
        /// As configured.
        path: PathBuf,
        /// What the system or the PEM reader said.
        source: std::io::Error,
    },
    /// The gRPC channel.
    #[error("gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The TLS library.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Taken, but for `rejected` spans.
    Accepted { rejected: u64, why: String },
    /// Refused for good.
    Refused { why: String },
    /// To be tried again, after the pause that the receiver named.
    Retry { after: Option<Duration>, why: String },
}

impl Sent {
    /// An answer of success, which may be a partial one.
    pub(super) fn accepted(response: ExportTraceServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default();
        Sent::Accepted { rejected, why: partial.error_message }
    }
}

#[derive(Debug)]
enum Sender {
    Grpc(Box<GrpcSender>),
    Http(Box<HttpSender>),
}

/// The exporter's task.
#[derive(Debug)]
pub(crate) struct Exporter {
    sender: Sender,
    template: ResourceTemplate,
    queue: Arc<Queue>,
    account: Arc<Account>,
    batch_spans_max: u64,
    interval: Duration,
    retry_initial: Duration,
    retry_max: Duration,
    retry_elapsed_max: Duration,
}

impl Exporter {
    /// The exporter of a configuration; none if the export is off. Must be made within its runtime.
    pub(crate) fn new(
        config: &OtlpConfig,
        queue: Arc<Queue>,
        account: Arc<Account>,
    ) -> Result<Option<Self>, ExporterError> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let sender = match config.protocol {
            OtlpProtocol::Grpc => Sender::Grpc(Box::new(GrpcSender::new(config, endpoint)?)),
            OtlpProtocol::Http => Sender::Http(Box::new(HttpSender::new(config, endpoint)?)),
        };
        let millis = |value: u32| Duration::from_millis(u64::from(value));
        Ok(Some(Self {
            sender,
            template: ResourceTemplate::new(config),
            queue,
            account,
            batch_spans_max: u64::from(config.batch_spans_max),
            interval: millis(config.interval_ms),
            retry_initial: millis(config.retry_initial_ms),
            retry_max: millis(config.retry_max_ms),
            retry_elapsed_max: millis(config.retry_elapsed_max_ms),
        }))
    }

    /// Exports until `stop` names a deadline, then what is queued until that deadline. What is left then, a
    /// request on its way included, is dropped and counted.
    pub(crate) async fn run(mut self, stop: watch::Receiver<Option<Instant>>) {
        let account = Arc::clone(&self.account);
        let mut overdue = stop.clone();
        let overdue = async move {
            // A sender that is gone means nobody is left to wait for spans.
            let deadline = overdue.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
            tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()).await;
        };
        tokio::select! {
            () = self.work(stop) => {}
            () = overdue => {}
        }
        account.close();
    }

    async fn work(&mut self, mut stop: watch::Receiver<Option<Instant>>) {
        let queue = Arc::clone(&self.queue);
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(self.interval) => false,
                () = queue.full_batch.notified() => false,
                _ = stop.wait_for(Option::is_some) => true,
            };
            loop {
                let batch = queue.take(self.batch_spans_max);
                if batch.is_empty() {
                    break;
                }
                self.deliver(&batch).await;
            }
            if stopping {
                return;
            }
        }
    }

    /// Sends one batch until it is taken, refused or too old.
    async fn deliver(&mut self, batch: &[Captured]) {
        let spans: u64 = batch.iter().map(Captured::spans).sum();
        let began = Instant::now();
        let mut backoff = self.retry_initial;
        loop {
            let message = request(batch, &self.template);
            let sent = match &mut self.sender {
                Sender::Grpc(sender) => sender.send(message).await,
                Sender::Http(sender) => sender.send(&message).await,
            };
            match sent {
                Sent::Accepted { rejected, why } => {
                    let rejected = rejected.min(spans);
                    self.account.deliver(spans - rejected);
                    if rejected > 0 {
                        self.account.discard(rejected, Loss::Refused);
                        tracing::warn!(rejected, why, "the OTLP receiver refused some spans");
                    }
                    return;
                }
                Sent::Refused { why } => {
                    self.account.discard(spans, Loss::Refused);
                    tracing::warn!(spans, why, "the OTLP receiver refused a batch of spans");
                    return;
                }
                Sent::Retry { after, why } => {
                    let pause = after.unwrap_or_else(|| shortened(backoff));
                    if began.elapsed() + pause > self.retry_elapsed_max {
                        self.account.discard(spans, Loss::RetriesExhausted);
                        tracing::warn!(spans, why, "a batch of spans could not be delivered");
                        return;
                    }
                    tracing::debug!(spans, why, ?pause, "spans will be sent again");
                    tokio::time::sleep(pause).await;
                    backoff = (backoff * 2).min(self.retry_max);
                }
            }
        }
    }
}

/// Between a half and the whole of a pause, so that many gateways do not come back at the same moment.
fn shortened(pause: Duration) -> Duration {
    // Every hasher state has a seed of its own, which is all the randomness that jitter needs.
    let random = foldhash::fast::RandomState::default().hash_one(Instant::now());
    pause.mul_f64(0.5 + 0.5 * (random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_a_half_and_the_whole() {
        let pause = Duration::from_millis(100);
        let pauses: Vec<Duration> = (0..200).map(|_| shortened(pause)).collect();
        assert!(pauses.iter().all(|short| *short >= pause / 2 && *short <= pause));
        assert!(pauses.iter().any(|short| *short != pauses[0]));
    }

    #[test]
    fn an_account_always_balances() {
        let account = Account::default();
        account.enqueue(10);
        account.turn_away(3, Loss::QueueFull);
        account.deliver(4);
        account.discard(2, Loss::Refused);
        account.close();
        let count = account.count();
        assert_eq!((count.accepted, count.delivered, count.queued), (13, 4, 0));
        let dropped: Vec<_> = count.dropped.into_iter().collect();
        assert_eq!(dropped, [("queue_full", 3), ("refused", 2), ("shutdown", 4)]);
    }
}
