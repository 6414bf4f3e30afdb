//! The PROXY protocol with those that most others speak it with: HAProxy before the gateway, HAProxy and nginx behind it.

use crate::support::*;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Runs a program until it listens at the address; it ends with what is returned.
async fn launch(mut command: Command, at: SocketAddr) -> Child {
    let mut child = command.kill_on_drop(true).spawn().expect("tests/run installs haproxy and nginx");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).await.is_err() {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{command:?} does not run");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    child
}

async fn haproxy(folder: &Path, at: SocketAddr, rest: &str) -> Child {
    let file = folder.join(format!("haproxy-{}.cfg", at.port()));
    let defaults = "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n";
    std::fs::write(&file, format!("{defaults}{rest}\n")).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(&file);
    launch(command, at).await
}

async fn nginx(folder: &Path, at: SocketAddr) -> Child {
    let place = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log stderr crit; events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen {at} proxy_protocol;\n\
         location / {{ return 200 \"$proxy_protocol_addr:$proxy_protocol_port\"; }} }} }}"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).arg("-c").arg(&file).arg("-p").arg(folder);
    launch(command, at).await
}

/// Asks from an address of its own; says that address and the answer.
async fn ask(from: &str, at: SocketAddr) -> (String, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut client = socket.connect(at).await.unwrap();
    let own = client.local_addr().unwrap().to_string();
    client.write_all(GET).await.unwrap();
    (own, read_all(&mut client).await)
}

#[test]
fn haproxy_before_the_gateway_names_its_client() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let listen = json!([{"address": "127.0.0.1:0", "proxy_protocol": "require"}]);
        let config = json!({"listen": listen, "trusted_ips": ["127.0.0.1"]});
        let gateway = Gateway::start(everything_to(echo().await), config);
        let mut events = 0;
        for word in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"] {
            let at = free_addr();
            let rest = format!(
                "listen l\n  mode tcp\n  bind {at}\n  unique-id-format %pid-%rt\n  server s {} {word}",
                gateway.addr
            );
            let _haproxy = haproxy(folder.path(), at, &rest).await;
            let (own, got) = ask("127.0.0.5", at).await;
            assert!(got.contains("x-real-ip: 127.0.0.5\r\n"), "{word}: {got}");
            assert!(got.contains(&format!("x-forwarded-port: {}\r\n", at.port())), "{own}: {got}");
            events += 1;
            let event = gateway.events(events).await.pop().unwrap();
            assert_eq!(event::ip_from_bytes(event.head.client_ip).unwrap().to_string(), "127.0.0.5");
            assert_eq!(event::ip_from_bytes(event.head.peer_ip).unwrap().to_string(), "127.0.0.1");
        }
    });
}

#[test]
fn haproxy_and_nginx_behind_the_gateway_are_told_its_client() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (free_addr(), free_addr());
        let says = "http-request return status 200 content-type text/plain lf-string \"%ci:%cp\"";
        let rest = format!("listen l\n  mode http\n  bind {one} accept-proxy\n  {says}");
        let _haproxy = haproxy(folder.path(), one, &rest).await;
        let _nginx = nginx(folder.path(), two).await;
        for behind in [one, two] {
            for version in ["v1", "v2"] {
                let mut entities = everything_to(behind);
                entities["services"][0]["send_proxy_protocol"] = json!(version);
                let gateway = Gateway::start(entities, json!({"listen": [{"address": "127.0.0.1:0"}]}));
                for from in ["127.0.0.6", "127.0.0.7"] {
                    let (own, got) = ask(from, gateway.addr).await;
                    assert!(got.starts_with("HTTP/1.1 200 ") && got.contains(&own), "{version} {own}: {got}");
                }
            }
        }
    });
}
