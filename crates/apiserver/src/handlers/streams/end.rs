//! How streams end: what the last message says.

use api::Status;
use serde_json::{Value, json};

/// What became of what was attached to, or run.
#[derive(Debug)]
pub(in crate::handlers) enum End {
    Success,
    /// A command has ended with an exit code other than 0.
    NonZero(u8),
    /// It is not known, and why.
    Failed(Status),
}

impl End {
    /// The end of a command. Clients read a single byte; what does not fit in one is a failure all the same.
    pub(in crate::handlers) fn of_command(exit: i32) -> Self {
        match u8::try_from(exit) {
            Ok(0) => Self::Success,
            Ok(code) => Self::NonZero(code),
            Err(_) => Self::NonZero(u8::MAX),
        }
    }

    /// The `Status` that says so, as it is since the fourth version of the protocols.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::NonZero(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(status) => status.to_value(),
        }
    }

    /// The words that say so, as they were before; none where there is nothing to complain of.
    pub(super) fn message(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::NonZero(code) => Some(format!(
                "command terminated with non-zero exit code: exit status {code}"
            )),
            Self::Failed(status) => Some(status.message.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_byte() {
        let said = |exit| End::of_command(exit).to_value();
        assert_eq!(said(0), json!({"metadata": {}, "status": "Success"}));
        assert_eq!(
            said(7),
            json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code: exit status 7",
                "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
            })
        );
        for (exit, byte) in [(255, "255"), (256, "255"), (-1, "255"), (i32::MIN, "255")] {
            let cause = &said(exit)["details"]["causes"][0];
            assert_eq!(cause["message"], byte, "{exit}");
        }
    }
}
