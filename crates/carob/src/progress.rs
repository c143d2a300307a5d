//! Progress bars, on standard error and only where a person watches.

use std::time::Duration;

use images::bundle::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over a number of bytes.
pub(crate) fn bytes(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A spinner for a step whose length nobody knows.
pub(crate) fn step(what: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.into());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar over a bundle that is built or verified: first what is read, then how much is done.
pub(crate) struct OfBundle {
    what: &'static str,
    bar: ProgressBar,
}

impl OfBundle {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = bytes(what, 0);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { what, bar }
    }

    pub(crate) fn show(&self, progress: Progress) {
        match progress {
            Progress::Reading { path } => self.bar.set_message(format!("reading {path}")),
            Progress::Bytes { done, total } => {
                self.bar.set_message(self.what);
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
        }
    }
}

impl Drop for OfBundle {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
