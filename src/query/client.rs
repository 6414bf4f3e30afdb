//! One HTTP request to `/sql`, and its answer piece by piece.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::Stop;
use crate::cli::QueryArgs;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An error body beyond this is cut: only its message is shown.
const ERROR_BYTES_MAX: usize = 1 << 20;

/// The body of an answer.
pub(super) struct Answer {
    body: Incoming,
}

impl Answer {
    /// The next piece, `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Stop::Query(format!("the answer broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Sends the statement. A refusal comes back as a text with a caret under its place.
pub(super) async fn ask(args: &QueryArgs, sql: &str, accept: &str) -> Result<Answer, Stop> {
    let url = &args.url;
    let uri: Uri = url.parse().map_err(|error| Stop::Usage(format!("--url {url}: {error}")))?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => authority.clone(),
        (Some("https"), _) => {
            return Err(Stop::Usage("--url takes http://; reach a remote server through a tunnel".into()));
        }
        _ => return Err(Stop::Usage(format!("--url {url}: write it as http://127.0.0.1:8200"))),
    };
    let host = authority.host().trim_matches(['[', ']']);
    let connect = TcpStream::connect((host, authority.port_u16().unwrap_or(80)));
    let unreachable = |why: String| {
        Stop::Unreachable(format!(
            "no Tollhouse answers at {url}: {why}\nstart one (`tollhouse run`) or name it with --url"
        ))
    };
    let stream = match timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("connecting took longer than 5 s".into())),
    };
    let broken = |error: hyper::Error| unreachable(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // The body's reader sees the same error and reports it.
            tracing::debug!(%error, "query connection ended");
        }
    });
    let path = match uri.path().trim_end_matches('/') {
        base if base.ends_with("/sql") => base.to_owned(),
        base => format!("{base}/sql"),
    };
    let mut request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::ACCEPT, accept);
    if let Some(token) = &args.token {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| Stop::Usage("--token: not one that a header can hold".into()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(sql.as_bytes())))
        .map_err(|error| Stop::Usage(format!("--url {url}: {error}")))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status.is_success() {
        return Ok(Answer { body: response.into_body() });
    }
    let body = match Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Err(Stop::Query(format!("{status}, and its explanation broke off: {error}"))),
    };
    Err(Stop::Query(shown(&refusal(status, &body, sql))))
}

/// A text without what drives a terminal: errors repeat values, which come from the network.
pub(super) fn shown(text: &str) -> String {
    let harmless = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if harmless(letter) { letter } else { '\u{fffd}' }).collect()
}

/// `{"error": {"message", "line", "column"}}` or `{"message", ...}` as text, with the line of SQL and a caret.
fn refusal(status: StatusCode, body: &[u8], sql: &str) -> String {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else {
        return format!("{status}: {}", String::from_utf8_lossy(body).trim());
    };
    let about = answer.get("error").filter(|error| error.is_object()).unwrap_or(&answer);
    let text = about.get("message").or_else(|| answer.get("error")).and_then(|text| text.as_str());
    let Some(message) = text else { return format!("{status}: {answer}") };
    let place = |key: &str| {
        let value = about.get(key).or_else(|| about.get("position").and_then(|place| place.get(key)));
        value.and_then(|number| usize::try_from(number.as_u64()?).ok()).filter(|number| *number > 0)
    };
    match (place("line"), place("column")) {
        (Some(line), Some(column)) => match sql.lines().nth(line - 1) {
            Some(source) => {
                let gutter = line.to_string().len();
                let margin: String = source
                    .chars()
                    .take(column - 1)
                    .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                    .collect();
                format!("{message}\n{line} | {source}\n{:gutter$} | {margin}^", "")
            }
            None => format!("{message} (line {line}, column {column})"),
        },
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{refusal, shown};
    use http::StatusCode;

    #[test]
    fn a_refusal_points_at_its_place() {
        let body = br#"{"error": {"message": "no column `x`", "line": 2, "column": 8}}"#;
        let text = refusal(StatusCode::BAD_REQUEST, body, "-- hm\nSELECT x");
        assert_eq!(text, "no column `x`\n2 | SELECT x\n  |        ^");
    }

    #[test]
    fn what_is_shown_drives_no_terminal() {
        assert_eq!(
            shown("no `\u{9b}2J\u{1b}[2J\u{7}`\n2 |\tx"),
            "no `\u{fffd}2J\u{fffd}[2J\u{fffd}`\n2 |\tx"
        );
    }

    #[test]
    fn refusals_without_a_place_or_without_json_are_shown_too() {
        assert_eq!(refusal(StatusCode::BAD_REQUEST, br#"{"message": "no"}"#, ""), "no");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"oops\n", ""), "502 Bad Gateway: oops");
    }
}
