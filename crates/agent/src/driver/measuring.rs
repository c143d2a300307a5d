//! Room for pods that are measured. Some have so many files that it takes minutes: they wait for each other, and nobody else
//! for them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use runtime::Meter;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How many pods are measured at the same time of those that do not take long, and of the others.
pub(super) const MOST_MEASURED: usize = 2;
/// Whose measurement takes longer than this begins again among those that take long.
const SHORT: Duration = Duration::from_secs(1);

/// The room of a node.
pub(super) struct Measuring {
    short: Semaphore,
    long: Semaphore,
    /// What all guests add to the node's disk. It has no bound before the cluster is heard of, for nobody is evicted then.
    pub(super) disk: Arc<Meter>,
}

/// What is known of one pod's measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    is_long: bool,
}

impl Measuring {
    pub(super) fn of_node() -> Self {
        Self {
            short: Semaphore::new(MOST_MEASURED),
            long: Semaphore::new(MOST_MEASURED),
            disk: Arc::new(Meter::new(u64::MAX)),
        }
    }

    /// Measures as soon as there is room, and says how long that took. What `measure` returns ends where it is dropped.
    pub(super) async fn measure<T, F>(
        &self,
        pace: &mut Pace,
        measure: impl Fn() -> F,
    ) -> (io::Result<T>, Duration)
    where
        F: Future<Output = io::Result<T>>,
    {
        if !pace.is_long {
            // They are never closed.
            let _room = self.short.acquire().await;
            let began = Instant::now();
            if let Ok(measured) = timeout(SHORT, measure()).await {
                return (measured, began.elapsed());
            }
        }
        let _room = self.long.acquire().await;
        let began = Instant::now();
        let measured = measure().await;
        let took = began.elapsed();
        pace.is_long = took > SHORT;
        (measured, took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_those_that_take_long() {
        let room = Arc::new(Measuring::of_node());
        let measured = async |pace: &mut Pace, seconds| {
            let of = async || {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(seconds)
            };
            let (measured, took) = room.measure(pace, of).await;
            assert_eq!((measured.unwrap(), took.as_secs()), (seconds, seconds));
        };
        let began = Instant::now();
        let many = (0..20).map(|_| {
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                let mut pace = Pace::default();
                let of = async || {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                    Ok(())
                };
                for _ in 0..2 {
                    room.measure(&mut pace, of).await.0.unwrap();
                }
                assert!(pace.is_long);
            })
        });
        let many: Vec<_> = many.collect();
        // They come first, and are found out.
        tokio::task::yield_now().await;
        measured(&mut Pace::default(), 0).await;
        assert!(began.elapsed() <= Duration::from_secs(11));
        measured(&mut Pace::default(), 0).await;
        assert!(began.elapsed() <= Duration::from_secs(11));
        for one in many {
            one.await.unwrap();
        }
        // Who takes long no more is one of the others again.
        let mut pace = Pace { is_long: true };
        measured(&mut pace, 0).await;
        assert_eq!(pace, Pace::default());
    }
}
