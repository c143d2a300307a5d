//! `std::net`'s sockets as hyper wants them, and what runs everything: one loop that polls all there is, and then waits by
//! `poll(2)` for what they said that they wait for.
//!
//! tokio would do the same, but its sockets ask more of the C library's `fcntl` than Rust brings for this target.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What is waited for until the next round.
#[derive(Default)]
struct Waits {
    sockets: Vec<libc::pollfd>,
    until: Option<Instant>,
}

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::default();
}

/// A socket is to be waited for.
pub fn wait_for(socket: RawFd, events: libc::c_short) {
    let wanted = libc::pollfd { fd: socket, events, revents: 0 };
    WAITS.with_borrow_mut(|waits| waits.sockets.push(wanted));
}

/// Is ready then, and not before.
pub async fn sleep(time: Duration) {
    let end = Instant::now() + time;
    std::future::poll_fn(|_| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        WAITS.with_borrow_mut(|waits| waits.until = Some(waits.until.map_or(end, |until| until.min(end))));
        Poll::Pending
    })
    .await
}

/// Whether something of the future can go on without any socket's doing.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end. It is polled whenever anything has happened that something of it waits for.
pub fn run<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(done);
        }
        let mut waits = WAITS.take();
        let now = woken.0.swap(false, Ordering::Relaxed).then(Instant::now);
        let timeout = now.or(waits.until).map_or(-1, |until| {
            let left = until.saturating_duration_since(Instant::now());
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        let count = waits.sockets.len() as libc::nfds_t;
        // SAFETY: the pointer and the count are one vector's, which lives until the call returns.
        if unsafe { libc::poll(waits.sockets.as_mut_ptr(), count, timeout) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
}

/// A connection that does not block.
pub struct Connection(TcpStream);

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }

    /// What came of a call, or that there will be more to say once there are such events.
    fn tried<T>(&self, result: io::Result<T>, events: libc::c_short) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(self.0.as_raw_fd(), events);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl Drop for Connection {
    /// Nobody waits for it any more: its number is no socket then, or another one.
    fn drop(&mut self) {
        let own = self.0.as_raw_fd();
        WAITS.with_borrow_mut(|waits| waits.sockets.retain(|waited| waited.fd != own));
    }
}

impl Read for Connection {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16 << 10];
        let room = buffer.remaining().min(bytes.len());
        let read = (&self.0).read(&mut bytes[..room]);
        self.tried(read, libc::POLLIN).map_ok(|length| buffer.put_slice(&bytes[..length]))
    }
}

impl Write for Connection {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.tried((&self.0).write(bytes), libc::POLLOUT)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}
