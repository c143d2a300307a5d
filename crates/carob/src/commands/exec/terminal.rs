//! The terminal of this process, while what is typed at it goes to a command elsewhere.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A terminal that passes on every key as it is, and shows none itself: whoever is at the other end does that. It is again
/// as it was when this is dropped.
#[derive(Debug)]
pub(in crate::commands) struct Terminal {
    terminal: OwnedFd,
    before: Termios,
    resized: Signal,
    /// Its size was said once.
    told: bool,
}

impl Terminal {
    /// Takes the terminal that standard input is.
    pub(super) fn take() -> Result<Self> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        stdin.map_err(Into::into).and_then(Self::of)
    }

    fn of(terminal: OwnedFd) -> Result<Self> {
        let resized = signal(SignalKind::window_change())?;
        let before = tcgetattr(&terminal).context("the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).context("the terminal")?;
        Ok(Self {
            terminal,
            before,
            resized,
            told: false,
        })
    }

    /// Its size as it is sent: at once, and then whenever it has changed. Nothing is lost where the wait is given up.
    pub(in crate::commands) async fn size(&mut self) -> String {
        loop {
            if self.told && self.resized.recv().await.is_none() {
                return pending().await;
            }
            self.told = true;
            // Some do not know theirs.
            if let Ok(size) = tcgetwinsize(&self.terminal)
                && size.ws_col > 0
                && size.ws_row > 0
            {
                return json!({"Width": size.ws_col, "Height": size.ws_row}).to_string() + "\n";
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that is gone needs nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{LocalModes, Winsize, tcsetwinsize};
    use serde_json::Value;

    use super::*;

    fn resize(terminal: &OwnedFd, width: u16, height: u16) {
        let size = Winsize {
            ws_col: width,
            ws_row: height,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal, size).unwrap();
    }

    async fn size(terminal: &mut Terminal) -> Value {
        serde_json::from_str(&terminal.size().await).unwrap()
    }

    #[tokio::test]
    async fn a_terminal_is_taken_and_given_back() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        // It is one as long as its other end is there.
        let other = openpt(flags).unwrap();
        grantpt(&other).unwrap();
        unlockpt(&other).unwrap();
        let own = ioctl_tiocgptpeer(&other, flags).unwrap();
        let echoes = || {
            let modes = tcgetattr(&own).unwrap().local_modes;
            modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
        };
        resize(&own, 80, 24);
        assert!(echoes());
        let mut taken = Terminal::of(own.try_clone().unwrap()).unwrap();
        assert!(!echoes());
        assert_eq!(size(&mut taken).await, json!({"Width": 80, "Height": 24}));
        resize(&own, 100, 30);
        kill_process(getpid(), rustix::process::Signal::WINCH).unwrap();
        assert_eq!(size(&mut taken).await, json!({"Width": 100, "Height": 30}));
        drop(taken);
        assert!(echoes());
    }

    #[tokio::test]
    async fn what_is_no_terminal_is_not_taken() {
        let file = tempfile::tempfile().unwrap();
        let why = Terminal::of(file.into()).unwrap_err();
        assert_eq!(why.to_string(), "the terminal");
    }
}
