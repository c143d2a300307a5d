//! The streams of a container, or of a command in one, as they end here.

use std::convert::Infallible;
use std::future::pending;

use anyhow::{Context, Result, bail};
use client::channels::{self, Sender};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::exec::terminal::Terminal;

/// What is read at a time.
const CHUNK: usize = 32 << 10;

/// Passes on this process's standard input where that is `open`, and the terminal's sizes where there is one. Ends only
/// where the input cannot be read: what else becomes of it comes the other way.
pub(super) async fn send(
    to: &mut Sender,
    mut open: bool,
    mut terminal: Option<&mut Terminal>,
) -> Result<Infallible> {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let sent = tokio::select! {
            read = input.read(&mut buffer), if open => match read.context("standard input")? {
                0 => {
                    open = false;
                    to.finish(channels::STDIN).await
                }
                n => to.send(channels::STDIN, &buffer[..n]).await,
            },
            size = size(&mut terminal) => to.send(channels::SIZE, size.as_bytes()).await,
        };
        if sent.is_err() {
            return pending().await;
        }
    }
}

/// The next size of the terminal; never, where there is none.
async fn size(terminal: &mut Option<&mut Terminal>) -> String {
    match terminal {
        Some(terminal) => terminal.size().await,
        None => pending().await,
    }
}

/// The exit code that the `Status` gives by which the server ends the streams.
///
/// # Errors
/// What it says where it gives none.
pub(super) fn exit_code(status: &[u8]) -> Result<u8> {
    let status: Value = serde_json::from_slice(status).context("the end of the streams")?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes
        .filter(|cause| cause["reason"] == "ExitCode")
        .find_map(|cause| cause["message"].as_str()?.parse().ok());
    match code {
        Some(code) if status["reason"] == "NonZeroExitCode" => Ok(code),
        _ => bail!("{}", status["message"].as_str().unwrap_or("it failed")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ends_are_exit_codes_or_errors() {
        let exit = |status: Value| {
            let code = exit_code(status.to_string().as_bytes());
            code.map_err(|error| error.to_string())
        };
        let ended = |reason, cause, code| {
            json!({
                "metadata": {}, "status": "Failure", "message": "why", "reason": reason,
                "details": {"causes": [{"message": "x"}, {"reason": cause, "message": code}]},
            })
        };
        let why = || Err("why".to_owned());
        assert_eq!(exit(json!({"metadata": {}, "status": "Success"})), Ok(0));
        assert_eq!(exit(ended("NonZeroExitCode", "ExitCode", "7")), Ok(7));
        assert_eq!(exit(ended("NonZeroExitCode", "ExitCode", "256")), why());
        assert_eq!(exit(ended("NonZeroExitCode", "Other", "7")), why());
        assert_eq!(exit(ended("InternalError", "ExitCode", "7")), why());
        assert_eq!(exit(json!({})), Err("it failed".to_owned()));
        assert!(exit_code(b"7").is_err());
        assert!(exit_code(b"").is_err());
    }
}
