//! How containers are ended.

use jiff::{SignedDuration, Timestamp};

use super::sync::Plan;
use super::{Action, Live, PodView as _};

/// What a container has whose pod was deleted by force, as the kubelet gives it.
pub(super) const FORCED: SignedDuration = SignedDuration::from_secs(2);

impl Plan<'_> {
    /// Tells everything that runs to end. What guests do then may need the API: they keep what is renewed for them.
    pub(super) fn end(&mut self, grace: SignedDuration, deadline: Option<Timestamp>) {
        let names: Vec<String> = self.observed.containers.keys().cloned().collect();
        for name in names {
            let why = format!("Stopping container {name}");
            self.stop(&name, grace, deadline, why, false);
            if let (Some(spec), Some(c)) = (self.pod.container(&name), self.observed.get(&name))
                && !self.observed.gone
            {
                self.probe(spec, c, true);
            }
        }
        if self.observed.any_live() && !self.observed.gone {
            self.renew();
        }
    }

    /// Tells a container to end, unless it was told to be gone by then.
    pub(super) fn stop(
        &mut self,
        name: &str,
        grace: SignedDuration,
        deadline: Option<Timestamp>,
        why: String,
        changed: bool,
    ) {
        let Some(Live::Running {
            stop_by, killed, ..
        }) = self.observed.get(name).map(|c| &c.live)
        else {
            return;
        };
        let full = self.now.checked_add(grace).unwrap_or(Timestamp::MAX);
        let deadline = deadline.map_or(full, |d| d.min(full));
        match stop_by {
            Some(by) if *by <= deadline => self.watch_end(name, *by, *killed),
            _ => {
                let grace = deadline.duration_since(self.now).max(SignedDuration::ZERO);
                self.push(Action::StopContainer {
                    container: name.to_owned(),
                    grace,
                    deadline,
                    why,
                    changed,
                });
                self.again_at(deadline);
            }
        }
    }

    /// Kills a container whose time is over.
    pub(super) fn watch_end(&mut self, name: &str, by: Timestamp, killed: bool) {
        if killed {
            return;
        }
        if by <= self.now {
            self.push(Action::KillContainer {
                container: name.to_owned(),
            });
        } else {
            self.again_at(by);
        }
    }
}
