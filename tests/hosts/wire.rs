//! The network between two hosts: a forwarder of TCP connections that can be cut, stall, or lose one direction.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Open,
    /// Connections are taken and held, and nothing passes either way: a black hole.
    Stalled,
    /// What the sender says arrives; what it is told does not.
    Mute,
    /// Connections are reset, and new ones too.
    Cut,
}

/// How often a held connection looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

struct State {
    mode: Mutex<Mode>,
    target: Mutex<SocketAddr>,
    /// Rises with each cut: connections of before it are gone.
    cuts: AtomicU64,
    over: AtomicBool,
}

/// A network of one address.
pub struct Wire {
    pub addr: SocketAddr,
    state: Arc<State>,
}

impl Wire {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Open),
            target: Mutex::new(target),
            cuts: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { continue };
                std::thread::spawn(move || carry(stream, &shared));
            }
        });
        Self { addr, state }
    }

    /// As a sender names it.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.addr)
    }

    /// Where new connections lead.
    pub fn leads(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = target;
    }

    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
        if mode == Mode::Cut {
            self.state.cuts.fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.set(Mode::Cut);
        self.state.over.store(true, SeqCst);
        // The listener's thread sees it with one more connection.
        drop(TcpStream::connect(self.addr));
    }
}

fn carry(client: TcpStream, state: &Arc<State>) {
    let born = state.cuts.load(SeqCst);
    if *state.mode.lock().unwrap() == Mode::Cut {
        return;
    }
    let target = *state.target.lock().unwrap();
    let Ok(server) = TcpStream::connect(target) else { return };
    let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let shared = Arc::clone(state);
    let answers = std::thread::spawn(move || pump(server, back, &shared, born, &[Mode::Open]));
    pump(client, forth, state, born, &[Mode::Open, Mode::Mute]);
    answers.join().unwrap();
}

/// One direction, which bytes pass in some modes.
fn pump(mut from: TcpStream, mut to: TcpStream, state: &State, born: u64, passes: &[Mode]) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut bytes = [0; 64 << 10];
    let gone = || state.cuts.load(SeqCst) != born;
    while !gone() {
        if !passes.contains(&*state.mode.lock().unwrap()) {
            std::thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => {
                // What was read before the mode changed is on its way.
                while !gone() && !passes.contains(&*state.mode.lock().unwrap()) {
                    std::thread::sleep(LOOK);
                }
                if gone() || to.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // Either may be closed already, which is what is wanted.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
