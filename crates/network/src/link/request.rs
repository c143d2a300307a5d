//! How a stream is asked for, and answered.

use std::net::SocketAddrV4;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::{LONGEST_POD, Open};
use crate::SocketError;

const FROM: &str = "carob-from";
const POD: &str = "carob-pod";
const REASON: &str = "carob-reason";
const DATAGRAMS: &str = "/datagrams";

/// The longest text of an IPv4 address and port.
const LONGEST_ADDRESS: usize = "255.255.255.255:65535".len();

/// What a request on a link asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// A stream to a pod.
    Stream(Open),
    /// The one on which datagrams travel.
    Datagrams,
}

/// `CONNECT` to the pod's address.
///
/// # Errors
/// When the pod's uid cannot be sent.
pub fn stream(open: &Open) -> Result<Request<()>, SocketError> {
    let pod = pod_value(&open.pod).ok_or(SocketError::Unreachable)?;
    Request::builder()
        .method(Method::CONNECT)
        .uri(open.to.to_string())
        .header(FROM, open.from.to_string())
        .header(POD, pod)
        .body(())
        .map_err(|_| SocketError::Unreachable)
}

/// The request on which all datagrams travel.
///
/// # Errors
/// Never for the constants that it is made of.
pub fn datagrams() -> Result<Request<()>, SocketError> {
    Request::post(format!("https://link{DATAGRAMS}"))
        .body(())
        .map_err(|_| SocketError::Unreachable)
}

/// Reads a request.
///
/// # Errors
/// The status to answer with.
pub fn decode(parts: &Parts) -> Result<Asked, StatusCode> {
    if parts.method == Method::POST {
        return match parts.uri.path() == DATAGRAMS {
            true => Ok(Asked::Datagrams),
            false => Err(StatusCode::NOT_FOUND),
        };
    }
    if parts.method != Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let read = || {
        let pod = text(parts, POD, LONGEST_POD)?;
        pod_value(pod)?;
        Some(Open {
            from: address(text(parts, FROM, LONGEST_ADDRESS)?)?,
            to: address(parts.uri.authority()?.as_str())?,
            pod: pod.to_owned(),
        })
    };
    read().map(Asked::Stream).ok_or(StatusCode::BAD_REQUEST)
}

fn pod_value(pod: &str) -> Option<HeaderValue> {
    let visible = pod.bytes().all(|byte| byte.is_ascii_graphic());
    if pod.is_empty() || pod.len() > LONGEST_POD || !visible {
        return None;
    }
    HeaderValue::from_str(pod).ok()
}

/// The field's text, where it is there once and not too long.
fn text<'a>(parts: &'a Parts, name: &str, longest: usize) -> Option<&'a str> {
    let mut values = parts.headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() || value.len() > longest {
        return None;
    }
    value.to_str().ok()
}

fn address(text: &str) -> Option<SocketAddrV4> {
    let address: SocketAddrV4 = text.parse().ok()?;
    (address.port() != 0).then_some(address)
}

/// An answer without a body, and why.
pub(super) fn answer(status: StatusCode, reason: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    if status != StatusCode::OK {
        let reason = HeaderValue::from_static(reason);
        response.headers_mut().insert(REASON, reason);
    }
    response
}

/// Why a stream was not made, to whoever asked for it.
pub(super) fn failure(error: SocketError) -> Response<()> {
    let (status, reason) = match error {
        SocketError::Refused => (StatusCode::BAD_GATEWAY, "refused"),
        SocketError::Unreachable | SocketError::TimedOut => {
            (StatusCode::GATEWAY_TIMEOUT, "unreachable")
        }
        SocketError::AddressInUse
        | SocketError::NotBindable
        | SocketError::PortsExhausted
        | SocketError::TooLarge => (StatusCode::INTERNAL_SERVER_ERROR, "fault"),
    };
    answer(status, reason)
}

/// What an answer says.
///
/// # Errors
/// Why the stream was not made.
pub(super) fn read_answer<T>(response: &Response<T>) -> Result<(), SocketError> {
    match response.status() {
        StatusCode::OK => Ok(()),
        StatusCode::BAD_GATEWAY => Err(SocketError::Refused),
        _ => Err(SocketError::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            from: "10.128.0.1:40000".parse().unwrap(),
            to: "10.128.64.1:80".parse().unwrap(),
            pod: "2f1d6c1e-96a2-4f0f-8a54-0c43a5e1f6a0".to_owned(),
        }
    }

    fn read(request: Request<()>) -> Result<Asked, StatusCode> {
        decode(&request.into_parts().0)
    }

    #[test]
    fn what_is_asked_is_read() {
        assert_eq!(read(stream(&open()).unwrap()), Ok(Asked::Stream(open())));
        assert_eq!(read(datagrams().unwrap()), Ok(Asked::Datagrams));
    }

    #[test]
    fn malformed_requests_have_a_status() {
        let connect = |to: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(Method::CONNECT).uri(to);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            read(request.body(()).unwrap())
        };
        let (from, pod) = ((FROM, "10.0.0.1:1"), (POD, "a"));
        assert!(connect("10.0.0.2:2", &[from, pod]).is_ok());
        let long = "x".repeat(LONGEST_POD + 1);
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("10.0.0.2:2", &[from]),
            ("10.0.0.2:2", &[pod]),
            ("10.0.0.2:2", &[from, pod, pod]),
            ("10.0.0.2:2", &[from, (POD, &long)]),
            ("10.0.0.2:2", &[from, (POD, "")]),
            ("10.0.0.2:2", &[from, (POD, "a b")]),
            ("10.0.0.2:2", &[(FROM, "10.0.0.1"), pod]),
            ("10.0.0.2:2", &[(FROM, "10.0.0.1:99999"), pod]),
            ("10.0.0.2:2", &[(FROM, "000000010.000000.0.1:1"), pod]),
            ("10.0.0.2:0", &[from, pod]),
            ("10.0.0.2", &[from, pod]),
            ("[::1]:2", &[from, pod]),
            ("user@10.0.0.2:2", &[from, pod]),
            ("name:2", &[from, pod]),
        ];
        for (to, headers) in cases {
            let status = connect(to, headers);
            assert_eq!(status, Err(StatusCode::BAD_REQUEST), "{to} {headers:?}");
        }
        let get = Request::get("https://link/datagrams").body(()).unwrap();
        assert_eq!(read(get), Err(StatusCode::METHOD_NOT_ALLOWED));
        let other = Request::post("https://link/other").body(()).unwrap();
        assert_eq!(read(other), Err(StatusCode::NOT_FOUND));
    }

    #[test]
    fn what_cannot_be_sent_is_not() {
        for pod in ["", "a\nb", "é", &"x".repeat(LONGEST_POD + 1)] {
            let open = Open {
                pod: pod.to_owned(),
                ..open()
            };
            assert_eq!(stream(&open).unwrap_err(), SocketError::Unreachable);
        }
    }

    #[test]
    fn errors_come_across() {
        let cases = [
            (SocketError::Refused, SocketError::Refused),
            (SocketError::Unreachable, SocketError::Unreachable),
            (SocketError::PortsExhausted, SocketError::Unreachable),
        ];
        for (sent, received) in cases {
            assert_eq!(read_answer(&failure(sent)), Err(received));
        }
        assert_eq!(read_answer(&answer(StatusCode::OK, "")), Ok(()));
    }
}
