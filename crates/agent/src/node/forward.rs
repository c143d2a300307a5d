//! The two directions of a connection into a pod, as messages of the node protocol.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::node::{PortForwardRequest, PortForwardResponse};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use network::pipe::Broken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::calls::Call;

/// The most bytes of one message.
const CHUNK: usize = 64 << 10;

/// What comes out of a pod.
pub(super) type Responses = BoxStream<'static, Result<PortForwardResponse, Status>>;

/// Carries both directions for as long as the responses are asked for. Who drops them resets the connection, and so does
/// who breaks the call off.
pub(super) fn carry(
    connection: network::Stream,
    requests: impl Stream<Item = Result<PortForwardRequest, Status>> + Send + Unpin + 'static,
    call: Call,
) -> Responses {
    let open = Arc::new(Open {
        connection,
        finished: AtomicBool::new(false),
        call,
    });
    let inward = AbortOnDropHandle::new(tokio::spawn(inward(requests, Arc::clone(&open))));
    let outward = Outward { open, inward };
    stream::try_unfold(outward, Outward::next).boxed()
}

struct Open {
    connection: network::Stream,
    /// The pod has ended its direction, and that was said.
    finished: AtomicBool,
    call: Call,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Where both directions have ended in order, the pod may still read what is on its way.
        if !(self.finished.load(Ordering::Relaxed) && self.connection.writer.is_closed()) {
            self.connection.reset();
        }
    }
}

struct Outward {
    open: Arc<Open>,
    inward: AbortOnDropHandle<Result<(), Status>>,
}

impl Outward {
    async fn next(self) -> Result<Option<(PortForwardResponse, Self)>, Status> {
        let open = Arc::clone(&self.open);
        tokio::select! {
            biased;
            () = open.call.broken_off() => {
                open.connection.reset();
                Err(broken_off())
            }
            next = self.response() => next,
        }
    }

    async fn response(mut self) -> Result<Option<(PortForwardResponse, Self)>, Status> {
        if self.open.finished.load(Ordering::Relaxed) {
            let ended = (&mut self.inward).await;
            ended.map_err(|e| Status::internal(e.to_string()))??;
            return Ok(None);
        }
        let read = self.open.connection.reader.read(CHUNK).await;
        let data = read.map_err(|broken| Status::aborted(broken.to_string()))?;
        let finish = data.is_none();
        self.open.finished.store(finish, Ordering::Relaxed);
        let response = PortForwardResponse {
            finish,
            data: data.unwrap_or_default(),
        };
        Ok(Some((response, self)))
    }
}

/// Passes on what comes in until it ends, or the pod reads no more.
async fn inward(
    mut requests: impl Stream<Item = Result<PortForwardRequest, Status>> + Unpin,
    open: Arc<Open>,
) -> Result<(), Status> {
    let writer = &open.connection.writer;
    let broken = poll_fn(|cx| writer.poll_broken(cx));
    let passed = async {
        while let Some(Ok(request)) = requests.next().await {
            writer.send(request.data).await?;
            if request.finish {
                writer.close();
                return Ok(true);
            }
        }
        Ok(false)
    };
    let passed = tokio::select! {
        passed = passed => passed,
        why = broken => Err(why),
        () = open.call.broken_off() => Ok(false),
    };
    match passed {
        // The pod reads no more: it may have something to say still.
        Ok(true) | Err(Broken::Closed) => Ok(()),
        Err(Broken::Reset) => Err(Status::aborted(Broken::Reset.to_string())),
        Ok(false) => {
            open.connection.reset();
            Err(broken_off())
        }
    }
}

fn broken_off() -> Status {
    Status::cancelled("the requests have broken off")
}

#[cfg(test)]
mod tests {
    use super::super::calls::Calls;
    use super::*;
    use bytes::Bytes;
    use network::{Listener, Network};
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;
    use tokio::sync::mpsc;

    type Requests = mpsc::Sender<Result<PortForwardRequest, Status>>;

    /// A connection that is carried, and the pod's end of it.
    async fn open() -> (Requests, Responses, network::Stream) {
        open_of(&Calls::default()).await
    }

    async fn open_of(calls: &Calls) -> (Requests, Responses, network::Stream) {
        let network = Network::new("10.128.0.0/24".parse().unwrap());
        let pod = network.join("uid").unwrap();
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
        let listener = Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 1);
        let near = network.enter(pod.address(), 80).await.unwrap();
        let far = listener.accept().await;
        let (requests, mut queue) = mpsc::channel(1);
        let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let call = calls.enter(1).unwrap();
        (requests, carry(near, queue, call), far)
    }

    async fn send(requests: &Requests, data: &'static [u8], finish: bool) {
        let request = PortForwardRequest {
            data: Bytes::from_static(data),
            finish,
            ..PortForwardRequest::default()
        };
        requests.send(Ok(request)).await.unwrap();
    }

    async fn next(responses: &mut Responses) -> Option<Result<(Bytes, bool), tonic::Code>> {
        let response = responses.next().await?;
        Some(response.map(|r| (r.data, r.finish)).map_err(|s| s.code()))
    }

    const END: Option<Result<(Bytes, bool), tonic::Code>> = Some(Ok((Bytes::new(), true)));

    #[tokio::test]
    async fn each_direction_ends_alone() {
        let (requests, mut responses, pod) = open().await;
        send(&requests, b"in", true).await;
        assert_eq!(pod.reader.read(9).await.unwrap().unwrap(), "in");
        assert_eq!(pod.reader.read(9).await, Ok(None));
        pod.writer.write(Bytes::from_static(b"out")).unwrap();
        assert_eq!(next(&mut responses).await, Some(Ok(("out".into(), false))));
        pod.writer.close();
        assert_eq!(next(&mut responses).await, END);
        assert_eq!(next(&mut responses).await, None);
    }

    #[tokio::test]
    async fn what_was_sent_in_order_is_read_after_the_end() {
        let (requests, mut responses, pod) = open().await;
        pod.writer.close();
        assert_eq!(next(&mut responses).await, END);
        send(&requests, b"late", true).await;
        assert_eq!(next(&mut responses).await, None);
        drop((requests, responses));
        assert_eq!(pod.reader.read(9).await.unwrap().unwrap(), "late");
        assert_eq!(pod.reader.read(9).await, Ok(None));
    }

    #[tokio::test]
    async fn a_pod_that_closes_ends_both() {
        let (_requests, mut responses, pod) = open().await;
        pod.writer.write(Bytes::from_static(b"bye")).unwrap();
        drop(pod);
        assert_eq!(next(&mut responses).await, Some(Ok(("bye".into(), false))));
        assert_eq!(next(&mut responses).await, END);
        assert_eq!(next(&mut responses).await, None, "it reads no more");
    }

    #[tokio::test]
    async fn resets_go_both_ways() {
        let (_requests, mut responses, pod) = open().await;
        pod.reset();
        assert_eq!(next(&mut responses).await, Some(Err(tonic::Code::Aborted)));
        // Requests that end without having said so.
        let (requests, _responses, pod) = open().await;
        send(&requests, b"", false).await;
        drop(requests);
        assert_eq!(pod.reader.read(9).await, Err(Broken::Reset));
        // Responses that nobody takes any more, though nothing more is to be sent.
        let (requests, mut responses, pod) = open().await;
        send(&requests, b"", true).await;
        assert_eq!(pod.reader.read(9).await, Ok(None));
        pod.writer.write(Bytes::from_static(b"out")).unwrap();
        assert_eq!(next(&mut responses).await, Some(Ok(("out".into(), false))));
        drop(responses);
        let broken = poll_fn(|cx| pod.writer.poll_broken(cx)).await;
        assert_eq!(broken, Broken::Reset);
    }

    #[tokio::test]
    async fn who_does_not_read_holds_back_who_sends() {
        let (requests, mut responses, pod) = open().await;
        let sent = tokio::spawn(async move {
            for _ in 0..100 {
                let request = PortForwardRequest {
                    data: vec![1; CHUNK].into(),
                    ..PortForwardRequest::default()
                };
                requests.send(Ok(request)).await.unwrap();
            }
            send(&requests, b"", true).await;
        });
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert!(!sent.is_finished());
        let mut got = 0;
        while let Some(bytes) = pod.reader.read(usize::MAX).await.unwrap() {
            got += bytes.len();
        }
        assert_eq!(got, 100 * CHUNK);
        pod.writer.close();
        assert_eq!(next(&mut responses).await, END);
        assert_eq!(next(&mut responses).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_broken_off() {
        let calls = Calls::default();
        let (requests, mut responses, pod) = open_of(&calls).await;
        let filling = async {
            loop {
                send(&requests, &[1; CHUNK], false).await;
            }
        };
        let patience = Duration::from_secs(1);
        assert!(tokio::time::timeout(patience, filling).await.is_err());
        calls.break_off(1);
        let cancelled = Some(Err(tonic::Code::Cancelled));
        assert_eq!(next(&mut responses).await, cancelled);
        assert_eq!(pod.reader.read(9).await, Err(Broken::Reset));
        requests.closed().await;
        drop(responses);
        // A pod that has ended its own direction, and takes no more of the other.
        let (requests, mut responses, pod) = open_of(&calls).await;
        pod.writer.close();
        assert_eq!(next(&mut responses).await, END);
        calls.break_off(1);
        assert_eq!(next(&mut responses).await, cancelled);
        requests.closed().await;
        drop(responses);
        // One that goes on after all requests have come, and one that reads no more of them.
        let (requests, mut responses, pod) = open_of(&calls).await;
        send(&requests, b"", true).await;
        assert_eq!(pod.reader.read(9).await, Ok(None));
        calls.break_off(1);
        assert_eq!(next(&mut responses).await, cancelled);
        assert_eq!(
            poll_fn(|cx| pod.writer.poll_broken(cx)).await,
            Broken::Reset
        );
        drop(responses);
        let (requests, mut responses, pod) = open_of(&calls).await;
        pod.reader.close();
        requests.closed().await;
        calls.break_off(1);
        assert_eq!(next(&mut responses).await, cancelled);
        assert_eq!(
            poll_fn(|cx| pod.writer.poll_broken(cx)).await,
            Broken::Reset
        );
    }
}
