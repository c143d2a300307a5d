//! SPDY/3.1 in the place of HTTP: the change of protocol. What is spoken then is in [`crate::spdy`].

use api::Status;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::body::{Response, joined};
use crate::dispatch::Call;

pub(super) const SPDY: &str = "SPDY/3.1";
/// By what clients say which protocols they would speak over SPDY, and servers which they have taken.
const OFFERED: &str = "x-stream-protocol-version";

/// SPDY that is asked for.
pub(super) struct Handshake {
    upgrade: OnUpgrade,
    accepted: http::response::Builder,
    /// What is spoken over it; none where the client names nothing, as the first clients of all.
    pub(super) protocol: Option<&'static str>,
}

impl Handshake {
    /// Reads the opening: the first protocol that the client offers and that is one of these.
    pub(super) fn read(call: &Call, protocols: &[&'static str]) -> Result<Self, Status> {
        let missing =
            || Status::bad_request("unable to upgrade: Upgrade without Connection: Upgrade");
        let upgrade = call.upgrade.clone().ok_or_else(missing)?;
        let mut accepted = http::Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, SPDY);
        let protocol = match chosen(&call.headers, protocols) {
            Ok(protocol) => protocol,
            Err(others) => {
                let why = format!(
                    "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                    others.join(" "),
                    protocols.join(" ")
                );
                return Err(Status::forbidden(call.resource, call.name(), &why));
            }
        };
        if let Some(protocol) = protocol {
            accepted = accepted.header(OFFERED, protocol);
        }
        Ok(Self {
            upgrade,
            accepted,
            protocol,
        })
    }

    /// Answers with the change of protocol, after which the connection is served until it is done or the server stops.
    pub(super) fn serve<F: Future<Output = ()> + Send>(
        self,
        call: &Call,
        serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) -> Result<Response, Status> {
        super::upgrade::serve(call, self.upgrade, serve);
        let answer = self.accepted.body(joined([]));
        answer.map_err(|e| Status::internal(e.to_string()))
    }
}

/// The first protocol that the client offers and that is one of these; where none of them is, what it offers.
fn chosen<'a>(
    headers: &'a HeaderMap,
    protocols: &[&'static str],
) -> Result<Option<&'static str>, Vec<&'a str>> {
    let values = headers.get_all(OFFERED).into_iter();
    let offered: Vec<&str> = values
        .flat_map(|v| v.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .collect();
    let known = |offer: &&str| protocols.iter().find(|p| *p == offer).copied();
    match offered.iter().find_map(known) {
        None if !offered.is_empty() => Err(offered),
        protocol => Ok(protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_likes_best_is_taken() {
        let protocols = ["v4", "v3"];
        let choose = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(OFFERED, value.parse().unwrap());
            }
            let chosen = chosen(&headers, &protocols);
            chosen.map_err(|others| others.join(" "))
        };
        assert_eq!(choose(&[]), Ok(None));
        assert_eq!(choose(&[" ,"]), Ok(None));
        assert_eq!(choose(&["v5", "v4", "v3"]), Ok(Some("v4")));
        assert_eq!(choose(&["v3, v4"]), Ok(Some("v3")));
        assert_eq!(choose(&["v6, v5", "x"]), Err("v6 v5 x".to_owned()));
    }
}
