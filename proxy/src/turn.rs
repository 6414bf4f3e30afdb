//! Turns of a thread. It runs the tasks that are ready, then looks at its sockets, and so on; a task that has much to do
//! does a part of it and leaves the rest to the next turn, so that whoever has become ready meanwhile comes between.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

/// So much of one body is passed on in one turn: copying it takes about as long as a few requests.
pub(crate) const BODY_BYTES_PER_TURN: u64 = 64 << 10;

/// How much of its work a task has done in this turn.
#[derive(Debug)]
pub(crate) struct Turn {
    done: usize,
    most: usize,
}

impl Turn {
    /// With so many steps in each.
    pub fn of(most: usize) -> Self {
        Self { done: 0, most }
    }

    /// Before each step; waits for the next turn where this one is full. Steps that were waited for count too: that
    /// costs a turn now and then, and no look at a clock.
    pub async fn step(&mut self) {
        if self.done == self.most {
            self.done = 0;
            tokio::task::yield_now().await;
        }
        self.done += 1;
    }
}

/// Has the task polled again in the next turn, after the thread has looked at its sockets.
pub(crate) fn next_turn(cx: &mut Context<'_>) {
    // It is never ready at first: it hands the waker over and is done with.
    let asked = pin!(tokio::task::yield_now()).poll(cx);
    debug_assert_eq!(asked, Poll::Pending);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_long_work_leaves_turns_to_others() {
        run(async {
            let steps = Rc::new(Cell::new(0));
            let theirs = Rc::clone(&steps);
            let work = tokio::task::spawn_local(async move {
                let mut turn = Turn::of(8);
                for _ in 0..100 {
                    turn.step().await;
                    theirs.set(theirs.get() + 1);
                }
            });
            let mut seen = 0;
            while !work.is_finished() {
                tokio::task::yield_now().await;
                assert!(steps.get() - seen <= 8, "{} steps in one turn", steps.get() - seen);
                seen = steps.get();
            }
            assert_eq!(steps.get(), 100);
        });
    }

    /// What comes over a socket comes before a task that has given its turn away.
    #[test]
    fn sockets_come_before_the_next_turn() {
        run(async {
            let (mut near, far) = tokio::net::UnixStream::pair().unwrap();
            let heard = Rc::new(Cell::new(false));
            let theirs = Rc::clone(&heard);
            let hears = tokio::task::spawn_local(async move {
                far.readable().await.unwrap();
                theirs.set(true);
            });
            tokio::task::yield_now().await;
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                if polls == 1 {
                    std::io::Write::write_all(&mut Raw(&mut near), b"x").unwrap();
                    next_turn(cx);
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
            assert!(heard.get());
            assert_eq!(polls, 2);
            hears.await.unwrap();
        });
    }

    /// Writes at once.
    struct Raw<'a>(&'a mut tokio::net::UnixStream);

    impl std::io::Write for Raw<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.try_write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
