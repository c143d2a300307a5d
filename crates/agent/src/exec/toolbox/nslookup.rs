//! `nslookup`: what a name means to the container's guest.

use std::net::IpAddr;

use network::ResolveError;

use super::options::{Options, Spec};
use super::{Answer, Call, Stop, failed};

/// The longest name that can be asked for, in characters.
const LONGEST: usize = 253;

pub(super) async fn nslookup(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, Spec::default())?;
    let name = match options.operands.as_slice() {
        [name] => name,
        [] => return Err(failed("interactive mode is not supported")),
        [_, server, ..] => {
            return Err(failed(format!(
                "asking another server is not supported: {server}"
            )));
        }
    };
    if name.parse::<IpAddr>().is_ok() {
        return Err(failed(format!(
            "names of addresses are not supported: {name}"
        )));
    }
    match resolve(call, name).await? {
        Ok(addresses) => {
            let lines = addresses
                .iter()
                .map(|address| format!("Address: {address}\n"));
            call.print(format!("Name:\t{name}\n{}", lines.collect::<String>()))
                .await?;
            Ok(0)
        }
        Err(ResolveError::Unknown) => {
            call.print(format!("** server can't find {name}: NXDOMAIN\n"))
                .await?;
            Ok(1)
        }
        Err(ResolveError::Unanswered) => {
            call.print(";; connection timed out; no servers could be reached\n")
                .await?;
            Ok(1)
        }
    }
}

/// The addresses of a name, as the container's guest learns them.
///
/// # Errors
/// Where there is no network, or the name is none.
pub(super) async fn resolve(
    call: &Call,
    name: &str,
) -> Result<Result<Vec<IpAddr>, ResolveError>, Stop> {
    let Some(net) = &call.view.net else {
        return Err(failed("there is no network"));
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty()
        || bare.len() > LONGEST
        || bare.contains(|c: char| c.is_whitespace() || c == '\0')
    {
        return Err(failed(format!("bad address '{name}'")));
    }
    Ok(net.resolve(&call.view.names, name).await)
}
