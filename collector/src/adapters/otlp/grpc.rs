//! OTLP/gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::config::{OtlpConfig, parse_endpoint};
use super::export::{ExporterError, Sent};

/// A channel that connects when it is first used and again whenever it broke.
#[derive(Debug)]
pub(super) struct GrpcSender {
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
}

impl GrpcSender {
    /// A sender; must be made within the runtime that will drive it.
    pub(super) fn new(config: &OtlpConfig, endpoint: &str) -> Result<Self, ExporterError> {
        let (_, tls) = parse_endpoint(endpoint).ok_or(ExporterError::Endpoint)?;
        let timeout = Duration::from_millis(u64::from(config.timeout_ms));
        let mut builder = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(timeout)
            .user_agent(concat!("tollhouse/", env!("CARGO_PKG_VERSION")))?
            // Finds out about a connection whose other end vanished without a word.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(timeout);
        if tls {
            let trust = match &config.ca_file {
                Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(
                    std::fs::read(path)
                        .map_err(|source| ExporterError::CaFile { path: path.clone(), source })?,
                )),
                None => ClientTlsConfig::new().with_webpki_roots(),
            };
            builder = builder.tls_config(trust)?;
        }
        let mut metadata = MetadataMap::new();
        for (name, value) in &config.headers {
            let refused = || ExporterError::Header(name.clone());
            let key =
                AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| refused())?;
            metadata.insert(key, AsciiMetadataValue::try_from(value.as_str()).map_err(|_| refused())?);
        }
        Ok(Self { client: TraceServiceClient::new(builder.connect_lazy()), metadata, timeout })
    }

    /// Sends one request.
    pub(super) async fn send(&mut self, message: ExportTraceServiceRequest) -> Sent {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        match tokio::time::timeout(self.timeout, self.client.export(request)).await {
            Err(_) => Sent::Retry { after: None, why: "no answer in time".to_owned() },
            Ok(Ok(response)) => Sent::accepted(response.into_inner()),
            Ok(Err(status)) => judge(&status),
        }
    }
}

/// What a status asks for (OTLP specification, "Failures" of OTLP/gRPC).
fn judge(status: &Status) -> Sent {
    let why = format!("{:?}: {}", status.code(), status.message());
    let after = retry_delay(status.details());
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Only a receiver that says when it expects to have room again.
        Code::ResourceExhausted => after.is_some(),
        // A connection that could not be made or broke: no receiver said this. Receivers' own statuses have no
        // error of this process as their source.
        Code::Unknown | Code::Internal => {
            std::error::Error::source(status).is_some()
                || status.message().starts_with("Service was not ready")
        }
        _ => false,
    };
    if retryable { Sent::Retry { after, why } } else { Sent::Refused { why } }
}

/// google.rpc.Status, as far as it is needed here.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

/// google.protobuf.Any.
#[derive(Clone, PartialEq, Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// google.rpc.RetryInfo.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

/// google.protobuf.Duration.
#[derive(Clone, Copy, PartialEq, Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The pause that a `RetryInfo` among the details names.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let (seconds, nanos) = (u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?);
    Some(Duration::from_secs(seconds) + Duration::from_nanos(u64::from(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exhausted(delay: Option<RpcDuration>) -> Status {
        let value = RetryInfo { retry_delay: delay }.encode_to_vec();
        let any = RpcAny { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value };
        let details = RpcStatus { details: vec![any] }.encode_to_vec();
        Status::with_details(Code::ResourceExhausted, "full", details.into())
    }

    #[test]
    fn what_is_retried() {
        let retried = |status: &Status| matches!(judge(status), Sent::Retry { .. });
        assert!(retried(&Status::unavailable("")));
        assert!(!retried(&Status::resource_exhausted("")));
        assert!(!retried(&Status::invalid_argument("")));
        assert!(!retried(&Status::unauthenticated("")));
        assert!(!retried(&Status::internal("the receiver's own")));
        let Sent::Retry { after, .. } = judge(&exhausted(Some(RpcDuration { seconds: 1, nanos: 5 }))) else {
            panic!("a RetryInfo means retry");
        };
        assert_eq!(after, Some(Duration::new(1, 5)));
        assert!(!retried(&exhausted(Some(RpcDuration { seconds: -1, nanos: 0 }))));
    }
}
