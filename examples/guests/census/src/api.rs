//! As much of a client of the Kubernetes API as this takes, on `wasi:http`.

use std::fs;
use std::io::{Read, Write as _};

use serde_json::Value;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::InputStream;

const AUTHORITY: &str = "kubernetes.default.svc";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A response's body, as it comes.
pub struct Body {
    // Before what it is a part of: the order of their ends.
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Read::read(&mut self.stream, buffer)
    }
}

/// Reads a path of the API.
pub fn get(path: &str) -> Result<Body, String> {
    ask(&Method::Get, path, &[], b"")
}

/// Applies an object of the pod's own namespace on the server's side.
pub fn apply(resource: &str, object: &Value) -> Result<(), String> {
    let namespace = account("namespace")?;
    let path = format!("/api/v1/namespaces/{namespace}/{resource}?fieldManager=census&force=true");
    let kind = [("content-type", "application/apply-patch+yaml")];
    ask(&Method::Patch, &path, &kind, object.to_string().as_bytes()).map(drop)
}

fn account(file: &str) -> Result<String, String> {
    fs::read_to_string(format!("{ACCOUNT}/{file}")).map_err(|error| format!("{file}: {error}"))
}

fn ask(method: &Method, path: &str, more: &[(&str, &str)], body: &[u8]) -> Result<Body, String> {
    let headers = Fields::new();
    // It is renewed from time to time.
    let token = format!("Bearer {}", account("token")?);
    for (name, value) in [("authorization", token.as_str())].iter().chain(more) {
        let set = headers.append(name, value.as_bytes());
        set.map_err(|error| format!("{name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let set = request
        .set_method(method)
        .and_then(|()| request.set_scheme(Some(&Scheme::Https)))
        .and_then(|()| request.set_authority(Some(AUTHORITY)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| format!("{path} cannot be asked for"))?;
    let sent = request.body().map_err(|()| "no body can be sent")?;
    let response = handle(request, None).map_err(|code| format!("{AUTHORITY}: {code}"))?;
    {
        let mut stream = sent.write().map_err(|()| "no body can be written")?;
        stream.write_all(body).map_err(|error| format!("sending: {error}"))?;
    }
    OutgoingBody::finish(sent, None).map_err(|code| format!("sending: {code}"))?;
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(format!("{AUTHORITY}: {code}")),
        _ => return Err("no response".to_owned()),
    };
    let status = response.status();
    let body = response.consume().map_err(|()| "no body can be read")?;
    let stream = body.stream().map_err(|()| "no body can be read")?;
    let mut body = Body {
        stream,
        _body: body,
        _response: response,
    };
    if status < 300 {
        return Ok(body);
    }
    let mut text = String::new();
    let read = body.read_to_string(&mut text);
    read.map_err(|error| format!("reading: {error}"))?;
    Err(format!("{path}: {status}: {text}"))
}
