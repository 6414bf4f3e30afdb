//! Coarse time-outs of one thread. A deadline is a number in a table that one sweep looks through, so arming one costs
//! a store: no timer is made per request, and none is removed. It fires up to three sweep intervals late: those that one
//! sweep finds are woken one by one until the next. Where thousands are over at one instant, a few are woken in each turn
//! of the thread, as long as it takes. Whoever has a request meanwhile is served in between.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

const NEVER: u64 = u64::MAX;

/// So many tasks are woken before the thread looks at its sockets again. What a time-out brings is seldom cheap: an
/// answer, a close of two connections, an event.
pub(crate) const WAKES_PER_TURN: usize = 1;
/// A pause between two that are woken, the least that the runtime's timers know; and how long it may be in fact.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MS_MAX: u64 = 2;

pub(crate) struct Clock {
    interval_ms: u64,
    begun: Instant,
    now_ms: Cell<u64>,
    /// One instant, and the same moment in microseconds since 1970.
    anchor: Cell<(Instant, i64)>,
    /// The date as HTTP writes it, and its second since 1970.
    date: Cell<(i64, [u8; 29])>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    /// Everyone is to be woken.
    rouse: Notify,
}

struct Slot {
    at_ms: u64,
    waker: Option<Waker>,
}

/// A place in the table, given back on drop.
pub(crate) struct Deadline {
    clock: Rc<Clock>,
    slot: usize,
}

impl Clock {
    pub fn new(interval_ms: u64) -> Rc<Self> {
        let begun = Instant::now();
        Rc::new(Self {
            interval_ms,
            begun,
            now_ms: Cell::new(0),
            anchor: Cell::new((begun, wall_us())),
            date: Cell::new((i64::MIN, [b' '; 29])),
            slots: RefCell::default(),
            free: RefCell::default(),
            rouse: Notify::new(),
        })
    }

    /// Microseconds since 1970 (UTC) at an instant near now.
    pub fn wall_us(&self, at: Instant) -> i64 {
        let (instant, wall_us) = self.anchor.get();
        wall_us + i64::try_from(at.saturating_duration_since(instant).as_micros()).unwrap_or(i64::MAX / 2)
    }

    /// The date, as of the last sweep (RFC 9110, 5.6.7).
    pub fn date(&self) -> [u8; 29] {
        let second = self.anchor.get().1.div_euclid(1_000_000);
        let (written, text) = self.date.get();
        if written == second {
            return text;
        }
        let text = date_text(second);
        self.date.set((second, text));
        text
    }

    /// The instant of the last sweep.
    pub fn swept(&self) -> Instant {
        self.anchor.get().0
    }

    /// Milliseconds since this clock began, as of the last sweep.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = self.slots.borrow_mut();
            slots.push(Slot { at_ms: NEVER, waker: None });
            slots.len() - 1
        });
        Deadline { clock: Rc::clone(self), slot }
    }

    /// Moves time on.
    fn move_on(&self) {
        let now = Instant::now();
        self.anchor.set((now, wall_us()));
        let now_ms = u64::try_from(now.duration_since(self.begun).as_millis()).unwrap_or(NEVER - 1);
        self.now_ms.set(now_ms);
    }

    /// Wakes everyone that holds a deadline, at once: for an end that nobody is served after.
    pub fn wake_all(&self) {
        self.wake(0, usize::MAX, |_| true);
    }

    /// The same, a few in each turn of the thread.
    pub fn rouse(&self) {
        self.rouse.notify_one();
    }

    /// Wakes up to `most` of those in the table from a place on; says where the next ones stand, if it did not get to its
    /// end.
    fn wake(&self, from: usize, most: usize, which: impl Fn(&Slot) -> bool) -> Option<usize> {
        let mut slots = self.slots.borrow_mut();
        let (mut due, mut next) = (Vec::new(), None);
        for (at, slot) in slots.iter_mut().enumerate().skip(from) {
            if due.len() == most {
                next = Some(at);
                break;
            }
            if which(slot) {
                due.extend(slot.waker.take());
            }
        }
        drop(slots);
        due.into_iter().for_each(Waker::wake);
        next
    }

    /// Moves time on at each interval, and wakes who has waited for it.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let everyone = tokio::select! {
                _ = ticks.tick() => false,
                () = self.rouse.notified() => true,
            };
            self.sweep(everyone).await;
        }
    }

    /// Goes once through the table. Those that are due are spread over the interval, or, where they are more than that
    /// leaves room for, over turns of the thread, each time a few.
    async fn sweep(&self, everyone: bool) {
        self.move_on();
        let which = |slot: &Slot| everyone || slot.at_ms <= self.now_ms.get();
        let waiting = |slot: &&Slot| slot.waker.is_some() && which(slot);
        let due = self.slots.borrow().iter().filter(waiting).count();
        let pauses = usize::try_from(self.interval_ms / PAUSE_MS_MAX).unwrap_or(usize::MAX).max(1);
        let spread = due <= pauses * WAKES_PER_TURN;
        let (mut from, mut left) = (0, due);
        while left > WAKES_PER_TURN {
            let Some(next) = self.wake(from, WAKES_PER_TURN, which) else { return };
            (from, left) = (next, left - WAKES_PER_TURN);
            if spread {
                tokio::time::sleep(PAUSE).await;
            } else {
                tokio::task::yield_now().await;
            }
            self.move_on();
        }
        self.wake(from, left, which);
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. The days of the calendar by Howard Hinnant's `civil_from_days`.
fn date_text(second: i64) -> [u8; 29] {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let (days, of_day) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 2 } else { from_march - 10 };
    let year = year_of_era + era * 400 + i64::from(month < 2);
    let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    text[..3].copy_from_slice(DAYS[days.rem_euclid(7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    let year = [(12, year / 100), (14, year % 100)];
    let rest = [(5, day), (17, of_day / 3_600), (20, of_day / 60 % 60), (23, of_day % 60)];
    for (at, number) in year.into_iter().chain(rest) {
        text[at] = b'0' + (number / 10 % 10) as u8;
        text[at + 1] = b'0' + (number % 10) as u8;
    }
    text
}

/// Now, in microseconds since 1970 (UTC).
pub(crate) fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0))
}

impl Deadline {
    /// Milliseconds since its clock began, as of the last sweep.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Sets it `after_ms` from now; never earlier, up to three sweeps later.
    pub fn arm(&self, after_ms: u64) {
        let at_ms = self.clock.now_ms.get().saturating_add(after_ms).saturating_add(self.clock.interval_ms);
        self.clock.slots.borrow_mut()[self.slot].at_ms = at_ms.min(NEVER - 1);
    }

    pub fn disarm(&self) {
        self.clock.slots.borrow_mut()[self.slot].at_ms = NEVER;
    }

    /// Ready once it is over. The task is also woken by [`Clock::wake_all`] and [`Clock::rouse`], armed or not.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.clock.slots.borrow_mut();
        let slot = &mut slots[self.slot];
        if slot.at_ms <= self.clock.now_ms.get() {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A future with a bound: none when it took longer than `after_ms`.
    pub async fn within<F: Future>(&self, after_ms: u64, future: F) -> Option<F::Output> {
        self.arm(after_ms);
        let mut future = std::pin::pin!(future);
        let result = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await;
        self.disarm();
        result
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let waker = {
            let slot = &mut self.clock.slots.borrow_mut()[self.slot];
            slot.at_ms = NEVER;
            slot.waker.take()
        };
        drop(waker);
        self.clock.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand that are over at one instant, or are roused, are woken a few in each turn of the thread, so that
    /// whoever is ready in between comes to its own.
    #[test]
    fn who_is_due_at_once_is_woken_over_many_turns() {
        const MANY: usize = 1000;
        for everyone in [false, true] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let clock = Clock::new(10);
                let woken = Rc::new(Cell::new(0));
                let mut waiting = tokio::task::JoinSet::new();
                for _ in 0..MANY {
                    let (deadline, woken) = (clock.deadline(), Rc::clone(&woken));
                    if !everyone {
                        deadline.arm(0);
                    }
                    let mut polls = 0;
                    waiting.spawn_local(std::future::poll_fn(move |cx| {
                        polls += 1;
                        if polls == 2 {
                            woken.set(woken.get() + 1);
                        }
                        deadline.poll(cx).map(|()| assert_eq!(polls, 2))
                    }));
                }
                // Each of them waits.
                for _ in 0..MANY {
                    tokio::task::yield_now().await;
                }
                assert_eq!(woken.get(), 0);
                while !everyone && clock.now_ms() <= 2 * clock.interval_ms {
                    clock.move_on();
                    tokio::task::yield_now().await;
                }
                let sweep = tokio::task::spawn_local({
                    let clock = Rc::clone(&clock);
                    async move { clock.sweep(everyone).await }
                });
                let (mut turns, mut seen) = (0, 0);
                while seen < MANY {
                    tokio::task::yield_now().await;
                    turns += 1;
                    let now = woken.get();
                    assert!(now - seen <= 2 * WAKES_PER_TURN, "{} in one turn", now - seen);
                    seen = now;
                    assert!(turns < 10 * MANY, "{seen} of {MANY} are woken");
                }
                assert!(turns >= MANY / WAKES_PER_TURN / 2, "{turns} turns");
                sweep.await.unwrap();
                waiting.abort_all();
            });
        }
    }

    #[test]
    fn dates_are_as_http_writes_them() {
        for (second, text) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(String::from_utf8_lossy(&date_text(second)), text);
        }
    }
}
