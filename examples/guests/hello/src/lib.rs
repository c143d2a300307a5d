//! A `wasi:http` server: an instance of it is made for each request, and gone after it.
//!
//! `/echo` returns the request's body as it comes; any other path says hello. POD_NAME says who does.

use std::env;
use std::io::Write as _;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        // Where the client has gone there is nobody to tell.
        let _ = match path.as_str() {
            "/echo" => echo(request, &body),
            _ => greet(&path, &body),
        };
        let _ = OutgoingBody::finish(body, None);
    }
}

fn greet(path: &str, body: &OutgoingBody) -> Option<()> {
    let pod = env::var("POD_NAME").unwrap_or_else(|_| "somebody".to_owned());
    let greeting = format!("{pod} says hello to {path}\n");
    body.write().ok()?.write_all(greeting.as_bytes()).ok()
}

fn echo(request: IncomingRequest, body: &OutgoingBody) -> Option<()> {
    let from = request.consume().ok()?;
    let (from, to) = (from.stream().ok()?, body.write().ok()?);
    // The host moves the bytes, as many as each end takes.
    while to.blocking_splice(&from, 64 << 10).is_ok() {}
    Some(())
}
