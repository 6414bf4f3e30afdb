//! The end of a gateway.

use crate::support::*;
use event::Outcome;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[test]
fn a_drain_lets_requests_finish_and_closes_idle_connections() {
    run(async {
        let Told { addr: origin, arrived, go } = Told::start().await;
        let mut gateway = Gateway::before(origin);
        let mut idle = TcpStream::connect(gateway.addr).await.unwrap();
        let mut busy = TcpStream::connect(gateway.addr).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        arrived.notified().await;
        let drain = tokio::task::spawn_local(gateway.running.take().unwrap().drain(PATIENCE));
        assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed");
        go.notify_one();
        let got = read_all(&mut busy).await;
        assert!(got.ends_with("ok") && got.contains("connection: close"), "{got}");
        assert_eq!(drain.await.unwrap().requests_cut, 0);
        assert_eq!(gateway.events(1).await[0].outcome, Outcome::Ok);
        assert!(TcpStream::connect(gateway.addr).await.is_err());
    });
}

#[test]
fn what_does_not_finish_is_cut_counted_and_recorded() {
    run(async {
        let arrived = Rc::new(Notify::new());
        let arrived_there = Rc::clone(&arrived);
        let origin = origin(move |_, mut stream| {
            let arrived = Rc::clone(&arrived_there);
            async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    arrived.notify_one();
                }
            }
        })
        .await;
        let mut gateway = Gateway::before(origin);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        arrived.notified().await;
        let report = gateway.running.take().unwrap().drain(Duration::from_millis(50)).await;
        assert_eq!(report.requests_cut, 1);
        read_all(&mut client).await;
        assert_eq!(gateway.events(1).await.len(), 1);
    });
}
