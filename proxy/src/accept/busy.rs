//! The answer to a connection that there is no place for: written at once, without a look at what it asks, and closed.

use super::doors::Away;
use super::socket::Socket;
use crate::core::Core;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

/// Counts refusals under way.
struct Refusing<'a>(&'a Core);

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        self.0.refusing.set(self.0.refusing.get() - 1);
    }
}

/// Refuses a connection. Who speaks something else than cleartext HTTP, or comes when too many are refused already, is
/// reset.
pub(super) async fn refuse(core: &Core, mut socket: Socket, away: Away, answers: bool) {
    core.doors.count(away);
    let limits = &core.plan.limits;
    if !answers || core.refusing.get() >= limits.connections_refused_max {
        return socket.reset();
    }
    core.refusing.set(core.refusing.get() + 1);
    let _refusing = Refusing(core);
    let (status, message) = match away {
        Away::Client => ("429 Too Many Requests", "Too many connections"),
        _ => ("503 Service Unavailable", "The gateway is overloaded"),
    };
    let body = format!("{{\n  \"message\":\"{message}\"\n}}");
    let answer = format!(
        "HTTP/1.1 {status}\r\nserver: tollhouse\r\nretry-after: {}\r\ncontent-type: application/json; \
         charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        limits.retry_after_s,
        body.len()
    );
    let deadline = core.clock.deadline();
    let linger_ms = core.plan.timeouts.linger_timeout_ms;
    let gone = deadline.within(linger_ms, async {
        // A close with unread bytes would reset the connection and take the answer from the client.
        if socket.write_all(answer.as_bytes()).await.is_ok() && socket.shutdown().await.is_ok() {
            discard(core, &mut socket).await;
        }
    });
    gone.await;
}

/// Reads on until the client ends, within a bound.
async fn discard(core: &Core, socket: &mut Socket) {
    let mut left = core.plan.limits.drain_bytes_max;
    std::future::poll_fn(|cx| {
        loop {
            let mut scratch = core.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = std::task::ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || bytes > left {
                return std::task::Poll::Ready(());
            }
            left -= bytes;
        }
    })
    .await;
}
