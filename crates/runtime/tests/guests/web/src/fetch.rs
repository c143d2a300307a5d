//! A client of `wasi:http/outgoing-handler`.

use std::io::Read as _;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, OutgoingRequest, RequestOptions, Scheme};

/// Gets `SCHEME://AUTHORITY/PATH`, each timeout being 500 ms where the URL ends with `#hurry`.
pub fn fetch(url: &str) -> Result<(u16, Vec<u8>), String> {
    let (url, hurry) = match url.strip_suffix("#hurry") {
        Some(url) => (url, true),
        None => (url, false),
    };
    let (scheme, rest) = url.split_once("://").unwrap();
    let at = rest.find('/').unwrap_or(rest.len());
    let request = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).unwrap();
    request.set_authority(Some(&rest[..at])).unwrap();
    request.set_path_with_query(Some(&rest[at..])).unwrap();
    let options = RequestOptions::new();
    if hurry {
        let half = Some(500_000_000);
        options.set_connect_timeout(half).unwrap();
        options.set_first_byte_timeout(half).unwrap();
        options.set_between_bytes_timeout(half).unwrap();
    }
    let code = |code| format!("{code:?}");
    let future = handle(request, Some(options)).map_err(code)?;
    future.subscribe().block();
    let response = future.get().unwrap().unwrap().map_err(code)?;
    let status = response.status();
    let body = response.consume().unwrap();
    let mut text = Vec::new();
    let read = body.stream().unwrap().read_to_end(&mut text);
    read.map_err(|error| format!("{error} after {} bytes", text.len()))?;
    Ok((status, text))
}
