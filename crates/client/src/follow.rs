//! A watch that goes on for as long as it is wanted: begun again wherever it breaks, from where it was.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::{Access, Error, Event, ListOptions, Object, Watch};

/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts: a healed cluster is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A watch that lived this long has worked: after it the pauses begin anew.
const WORKED: Duration = Duration::from_secs(1);
/// Seconds after which a watch is renewed, so that a connection that died unnoticed is found.
const RENEW: std::ops::Range<u64> = 300..600;
/// How much longer than that a silent watch is kept.
const SILENCE: Duration = Duration::from_secs(30);

/// What takes in the changes that [`follow`] brings.
pub trait Sink<T>: Send {
    /// Takes up what is there, and says as of which revision: at first, and again whenever the revision from which the
    /// watch would go on is no longer kept.
    fn begin(&mut self) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Takes in what has changed since, in order and each change once. That was all up to `revision`.
    fn take(&mut self, events: Vec<Event<T>>, revision: u64) -> impl Future<Output = ()> + Send;
}

/// Pauses between attempts: doubling, drawn from the upper half of each step so that many
/// clients of a restarted server don't come all at once.
struct Pauses {
    next: Duration,
}

impl Pauses {
    fn new() -> Self {
        Pauses { next: FIRST_PAUSE }
    }

    async fn pause(&mut self) {
        let drawn = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(drawn).await;
    }
}

/// The last refusal that was warned of: one that stays is told once.
#[derive(Default)]
struct Refusal(String);

impl Refusal {
    fn is_new(&mut self, refusal: &str) -> bool {
        let is_new = self.0 != refusal;
        if is_new {
            refusal.clone_into(&mut self.0);
        }
        is_new
    }
}

/// Follows the objects that the options name, for ever: ends by being dropped.
pub async fn follow<T: Object>(access: Access<T>, options: ListOptions, mut sink: impl Sink<T>) {
    let mut pauses = Pauses::new();
    let mut refusal = Refusal::default();
    loop {
        let mut revision = match sink.begin().await {
            Ok(revision) => revision,
            Err(error) => {
                // A server that is away comes back; being refused is somebody's mistake.
                if !error.is_transient() && refusal.is_new(&error.to_string()) {
                    tracing::warn!(%error, "listing failed");
                } else {
                    tracing::debug!(%error, "listing failed");
                }
                pauses.pause().await;
                continue;
            }
        };
        refusal = Refusal::default();
        loop {
            let began = Instant::now();
            let before = revision;
            let ended = run_watch(&access, &options, &mut sink, &mut revision).await;
            if began.elapsed() >= WORKED || revision > before {
                pauses = Pauses::new();
            }
            match ended {
                Err(error) if error.is_expired() => {
                    tracing::debug!(revision, "the revision is no longer kept: listing again");
                    pauses.pause().await;
                    break;
                }
                Err(error) => tracing::debug!(%error, "the watch broke"),
                Ok(()) => tracing::trace!("the watch ended"),
            }
            pauses.pause().await;
        }
    }
}

/// Follows one watch to its end, keeping `revision` at what has been seen.
async fn run_watch<T: Object>(
    access: &Access<T>,
    options: &ListOptions,
    sink: &mut impl Sink<T>,
    revision: &mut u64,
) -> Result<(), Error> {
    let seconds = rand::rng().random_range(RENEW);
    let mut watch: Watch<T> = access.watch_for(options, *revision, Some(seconds)).await?;
    let silence = Duration::from_secs(seconds) + SILENCE;
    loop {
        let batch = tokio::time::timeout(silence, watch.next_batch())
            .await
            .map_err(|_| Error::Timeout {
                what: format!("watch of {}", access.plural()),
                seconds: silence.as_secs(),
            })?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        let mut failed = None;
        for event in batch {
            match event {
                Ok(event) => {
                    *revision = event.revision().max(*revision);
                    events.push(event);
                }
                Err(error @ Error::Decode { .. }) => {
                    tracing::warn!(%error, "an object can't be read and is left out");
                }
                Err(error) => failed = Some(error),
            }
        }
        sink.take(events, *revision).await;
        if let Some(error) = failed {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_told_once() {
        let mut refusal = Refusal::default();
        let told: Vec<bool> = ["no", "no", "never", "never", "no"]
            .map(|why| refusal.is_new(why))
            .into();
        assert_eq!(told, [true, false, true, false, true]);
        refusal = Refusal::default();
        assert!(refusal.is_new("no"), "it was taken meanwhile");
    }
}
