//! A role's share of the memory that all queries have.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// What is taken here is taken of the whole, too.
#[derive(Debug)]
pub(crate) struct SharePool {
    share: FairSpillPool,
    bytes_max: usize,
    whole: Arc<dyn MemoryPool>,
}

impl SharePool {
    /// A share of at most so many bytes.
    pub(crate) fn new(bytes_max: usize, whole: Arc<dyn MemoryPool>) -> Self {
        Self { share: FairSpillPool::new(bytes_max), bytes_max, whole }
    }
}

impl fmt::Display for SharePool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "share({} of {})", self.share, self.whole)
    }
}

impl MemoryPool for SharePool {
    fn name(&self) -> &str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.share.register(consumer);
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.share.unregister(consumer);
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.share.grow(reservation, additional);
        self.whole.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.share.shrink(reservation, shrink);
        self.whole.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.share.try_grow(reservation, additional)?;
        self.whole
            .try_grow(reservation, additional)
            .inspect_err(|_| self.share.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.share.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn a_share_ends_before_the_whole_and_gives_back_what_it_took() {
        let whole: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1_000));
        let share =
            |bytes_max| -> Arc<dyn MemoryPool> { Arc::new(SharePool::new(bytes_max, Arc::clone(&whole))) };
        let (small, large) = (share(300), share(1_000));
        let of_small = MemoryConsumer::new("small").register(&small);
        of_small.try_grow(300).unwrap();
        assert!(of_small.try_grow(1).is_err());
        let of_large = MemoryConsumer::new("large").register(&large);
        assert!(of_large.try_grow(701).is_err());
        assert_eq!((large.reserved(), whole.reserved()), (0, 300));
        of_large.try_grow(700).unwrap();
        drop(of_small);
        assert_eq!((small.reserved(), whole.reserved()), (0, 700));
    }
}
