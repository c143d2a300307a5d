//! Asking a cluster to let this machine in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::Client;
use client::https::HttpsTransport;
use client::join::{self, Request, Response};
use client::tls;
use client::token::Token;

/// Sends `request` to the server at `url` until it answers, for `limit` at most. A refusal is final.
pub(crate) async fn ask(
    url: &str,
    token: &Token,
    request: &Request,
    limit: Duration,
    pause: Duration,
) -> Result<Response> {
    let transport = HttpsTransport::new([url], tls::pinned_config(*token.ca_digest())?)?;
    let client = Client::new(Arc::new(transport), "carob");
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match join::join(&client, token, request).await {
            Ok(answer) => return Ok(answer),
            // A server that is not ready yet says so by 503; everything else it says is final.
            Err(error)
                if error.code().is_none_or(|code| code == 503)
                    && tokio::time::Instant::now() < deadline =>
            {
                tracing::debug!(%error, url, "the cluster does not answer yet");
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot join the cluster at {url} (does the token belong to it, and has it not expired?)")
                });
            }
        }
    }
}
