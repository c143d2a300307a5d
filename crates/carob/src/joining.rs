//! Asking a cluster to let this machine in.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::Client;
use client::https::HttpsTransport;
use client::join::{self, NewMember, Request, Response};
use client::tls::{self, Identity};
use client::token::Token;

/// Sends `request` to the servers in turn until one answers, for `limit` at most. A refusal is final.
pub(crate) async fn ask(
    servers: &[String],
    token: &Token,
    request: &Request,
    limit: Duration,
    pause: Duration,
) -> Result<Response> {
    let transport = HttpsTransport::new(servers, tls::pinned_config(*token.ca_digest())?)?;
    let client = Client::new(Arc::new(transport), "carob");
    let deadline = tokio::time::Instant::now() + limit;
    let servers = servers.join(", ");
    let mut told = String::new();
    loop {
        match join::join(&client, token, request).await {
            Ok(answer) => return Ok(answer),
            // A server that is not ready yet says so by 503; everything else it says is final.
            Err(error)
                if error.code().is_none_or(|code| code == 503)
                    && tokio::time::Instant::now() < deadline =>
            {
                let why = error.to_string();
                if why != told {
                    let _ = writeln!(
                        std::io::stderr(),
                        "{servers} cannot be joined yet, trying on: {why}"
                    );
                    tracing::warn!(error = why, servers, "the cluster does not answer yet");
                    told = why;
                }
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                let hint = match error.code() {
                    Some(401) => " (does the token belong to it, and has it not expired?)",
                    _ => "",
                };
                return Err(error)
                    .with_context(|| format!("cannot join the cluster at {servers}{hint}"));
            }
        }
    }
}

/// How long a cluster may be without a leader while it takes a server in.
const ADD_WITHIN: Duration = Duration::from_secs(60);
const ADD_PAUSE: Duration = Duration::from_millis(250);
/// Catching up by a snapshot takes as long as the snapshot is large.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(300);

/// Asks the servers to take the member in. Repeating this is harmless, so that it is tried again
/// until one has done it.
pub(crate) async fn add_member(
    servers: &[String],
    identity: &Identity,
    member: &NewMember,
) -> Result<()> {
    let transport = HttpsTransport::new(servers, identity.client_config()?)?;
    let client = Client::new(Arc::new(transport), "carob").with_timeout(CATCH_UP_WITHIN);
    let deadline = tokio::time::Instant::now() + ADD_WITHIN;
    loop {
        match join::add_member(&client, member).await {
            Ok(_) => return Ok(()),
            Err(error)
                if error.code().is_none_or(|code| code >= 500)
                    && tokio::time::Instant::now() < deadline =>
            {
                tracing::debug!(%error, "the cluster does not take this server in yet");
                tokio::time::sleep(ADD_PAUSE).await;
            }
            Err(error) => {
                return Err(error).context("the cluster does not take this server in");
            }
        }
    }
}
