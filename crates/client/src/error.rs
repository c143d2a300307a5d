//! What a request can end in other than its answer.

use api::status::Status;

/// Why a request gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it, and said why.
    #[error("{}", .0.message)]
    Status(Box<Status>),
    /// No answer came: no server could be reached, or the connection broke.
    #[error("{context}: {source}")]
    Transport {
        /// Which server, and what was being done.
        context: String,
        /// What the network or TLS said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time.
    #[error("no answer to {what} within {seconds} s")]
    Timeout {
        /// The request, as `METHOD path`.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer or an object was not what it should be.
    #[error("{what}: {source}")]
    Decode {
        /// What was being read.
        what: String,
        /// Where it went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A body or a line of a watch was larger than may be taken.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A key or a certificate can't be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// No kubeconfig says how to reach a cluster.
    #[error(transparent)]
    Kubeconfig(#[from] crate::kubeconfig::Error),
    /// The call itself was wrong: an object without a name, a path that is none.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// An error of the network.
    pub fn transport(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::Transport {
            context: context.into(),
            source: source.into(),
        }
    }

    /// An error of reading something.
    pub fn decode(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::Decode {
            what: what.into(),
            source: source.into(),
        }
    }

    /// The server's answer, if it was one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP status code of the server's answer, if there was one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// 404: there is no such object (or kind).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// 409: somebody else wrote the object first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.has_reason(409, "Conflict")
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.has_reason(409, "AlreadyExists")
    }

    /// 410: the revision asked for is no longer kept; list again.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// 403: the identity may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Whether the same call may succeed later: no answer, 429, 500, 503 or 504.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Transport { .. } | Error::Timeout { .. } => true,
            Error::Status(status) => matches!(status.code, 429 | 500 | 503 | 504),
            _ => false,
        }
    }

    fn has_reason(&self, code: u16, reason: &str) -> bool {
        self.status()
            .is_some_and(|status| status.code == code && status.reason == reason)
    }
}
