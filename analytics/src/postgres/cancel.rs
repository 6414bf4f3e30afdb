//! Requests to cancel: they come on a connection of their own, with a number and a secret that the other was given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::SystemRandom;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::scram::bytes;

/// Connections that may be told to cancel.
#[derive(Default)]
pub(super) struct Keys {
    ids: AtomicU32,
    open: Mutex<HashMap<u32, ([u8; 4], Running)>>,
}

/// What runs on a connection, if anything does.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<CancellationToken>>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among them, until dropped.
pub(super) struct Key {
    keys: Arc<Keys>,
    pub(super) id: u32,
    pub(super) secret: u32,
    running: Running,
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, ([u8; 4], Running)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection.
    pub(super) fn add(self: &Arc<Self>) -> Key {
        let (secret, running) = (bytes::<4>(&SystemRandom::new()), Running::default());
        let mut open = self.lock();
        // Positive as a number of 32 bits with a sign, for clients that show it as the number of a process.
        let id = loop {
            let id = self.ids.fetch_add(1, Ordering::Relaxed) % (i32::MAX as u32) + 1;
            if !open.contains_key(&id) {
                break id;
            }
        };
        open.insert(id, (secret, running.clone()));
        Key { keys: Arc::clone(self), id, secret: u32::from_be_bytes(secret), running }
    }

    /// Cancels what runs on a connection, for who knows its secret.
    pub(super) fn cancel(&self, id: u32, secret: u32) {
        let found = self.lock().get(&id).cloned();
        if let Some((known, running)) = found
            && bool::from(known.ct_eq(&secret.to_be_bytes()))
            && let Some(token) = running.lock().take()
        {
            token.cancel();
        }
    }
}

impl Key {
    /// Something begins to run: what a request to cancel ends. What ran before cannot be cancelled any more.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.running.lock() = Some(token.clone());
        token
    }

    /// Nothing runs.
    pub(super) fn end(&self) {
        *self.running.lock() = None;
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_is_cancelled_and_only_with_the_secret() {
        let keys = Arc::new(Keys::default());
        let (one, other) = (keys.add(), keys.add());
        assert_ne!(one.id, other.id);
        keys.cancel(one.id, one.secret);
        let (running, beside) = (one.begin(), other.begin());
        assert!(!running.is_cancelled(), "it came before there was anything to cancel");
        keys.cancel(one.id, one.secret ^ 1);
        keys.cancel(one.id, other.secret);
        assert!(!running.is_cancelled());
        keys.cancel(one.id, one.secret);
        assert!(running.is_cancelled() && !beside.is_cancelled());
        let (id, secret) = (other.id, other.secret);
        drop(other);
        keys.cancel(id, secret);
        assert!(!beside.is_cancelled(), "the connection has ended");
    }
}
