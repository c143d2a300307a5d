//! A connection on which a client opens streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{Encoder as _, FramedRead};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::frame::{Decoder, Encoder, Fault, Frame, INITIAL_WINDOW_SIZE};
use super::inbound::{Unread, inbound};
use super::outgoing::{Credit, Outgoing, Queued};
use super::shared::{Entry, Shared};
use super::stream::{Reader, Stream, Writer};
use super::window::Window;
use super::{MOST_STREAMS, status};

/// Streams that wait to be accepted before nothing more is read.
const WAITING: usize = 16;
/// Bytes that wait in all streams together before nothing more is read.
const ROOM: usize = 4 << 20;
/// How long the other end may be silent before it is asked whether it is there, and then before it is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// How long what is queued at the end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection with a client. Dropping it ends it at once, with all of its streams.
#[derive(Debug)]
pub struct Connection {
    opened: mpsc::Receiver<Stream>,
    shared: Arc<Shared>,
    reading: AbortOnDropHandle<()>,
    writing: AbortOnDropHandle<()>,
}

impl Connection {
    /// Speaks SPDY/3.1 as a server does over any stream of bytes.
    pub fn start(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self::begin(io, SILENCE)
    }

    pub(super) fn begin(
        io: impl AsyncRead + AsyncWrite + Send + 'static,
        silence: Duration,
    ) -> Self {
        let (from, to) = tokio::io::split(io);
        let (out, queued) = Outgoing::new();
        let shared = Arc::new(Shared::new(out));
        let (open, opened) = mpsc::channel(WAITING);
        let reading = Reading {
            shared: Arc::clone(&shared),
            opened: open,
            room: Arc::new(Semaphore::new(ROOM)),
            credit: Credit::new(0, None),
            silence,
        };
        Self {
            opened,
            reading: AbortOnDropHandle::new(tokio::spawn(reading.run(from))),
            writing: AbortOnDropHandle::new(tokio::spawn(write(queued, to, Arc::clone(&shared)))),
            shared,
        }
    }

    /// The next stream that the client opens; `None` once it opens no more: the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Takes no more streams, writes what is queued, and ends. Streams that are open break off.
    pub async fn close(self) {
        drop(self.reading);
        let last = self.shared.streams.lock().last;
        self.shared.out.end(Frame::GoAway { last, status: 0 });
        // Who does not read is not waited for.
        let _ = tokio::time::timeout(FAREWELL, self.writing).await;
    }
}

/// The task that reads.
struct Reading {
    shared: Arc<Shared>,
    opened: mpsc::Sender<Stream>,
    room: Arc<Semaphore>,
    credit: Arc<Credit>,
    silence: Duration,
}

/// The connection has ended, in one way or another.
struct Ended;

impl Reading {
    async fn run<I: AsyncRead>(self, from: ReadHalf<I>) {
        let mut frames = FramedRead::with_capacity(from, Decoder::default(), 64 << 10);
        let mut asked = false;
        loop {
            let frame = match tokio::time::timeout(self.silence, frames.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(fault))) => {
                    self.goodbye(&fault);
                    break;
                }
                Ok(None) => break,
                Err(_) if asked => break,
                Err(_) => {
                    asked = true;
                    // An even number: it is the server's.
                    if self.shared.out.send(Frame::Ping(2)).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            asked = false;
            // Frames that cost nobody a wait come in their thousands: the others of this thread have their turn too.
            tokio::task::coop::consume_budget().await;
            if self.take(frame).await.is_err() {
                break;
            }
        }
        self.shared.break_off();
    }

    fn goodbye(&self, fault: &Fault) {
        debug!(%fault, "a SPDY connection ends");
        let last = self.shared.streams.lock().last;
        self.shared.out.end(Frame::GoAway { last, status: 1 });
    }

    async fn take(&self, frame: Frame) -> Result<(), Ended> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
            } => return self.open(stream, fin, unidirectional, headers).await,
            Frame::Data { stream, fin, bytes } => {
                self.data(stream, bytes).await?;
                if fin {
                    self.finish(stream);
                }
            }
            Frame::Headers {
                stream, fin: true, ..
            } => self.finish(stream),
            Frame::RstStream { stream, .. } => {
                self.shared.forget(stream);
            }
            // The client's own pings have odd numbers; an even one answers ours.
            Frame::Ping(id) if id % 2 == 1 => return self.answer(Frame::Ping(id)).await,
            Frame::Settings(settings) => {
                let initial = settings.iter().find(|(id, _)| *id == INITIAL_WINDOW_SIZE);
                if let Some((_, value)) = initial {
                    self.shared.initial(*value);
                    self.shared.enforce();
                }
            }
            Frame::WindowUpdate { stream, delta } => return self.window(stream, delta).await,
            // It opens no more streams: those that are open go on.
            Frame::GoAway { .. } => {}
            Frame::Headers { .. } | Frame::Ping(_) | Frame::SynReply { .. } => {}
        }
        Ok(())
    }

    async fn answer(&self, frame: Frame) -> Result<(), Ended> {
        self.shared.out.send(frame).await.map_err(|_| Ended)
    }

    async fn refuse(&self, stream: u32, status: u32) -> Result<(), Ended> {
        self.answer(Frame::RstStream { stream, status }).await
    }

    async fn open(
        &self,
        id: u32,
        fin: bool,
        unidirectional: bool,
        headers: super::Headers,
    ) -> Result<(), Ended> {
        let place = self.shared.out.place().await.map_err(|_| Ended)?;
        let (inlet, outlet) = inbound(Arc::clone(&self.room));
        if fin {
            inlet.finish();
        }
        let stream = {
            let mut streams = self.shared.streams.lock();
            if id.is_multiple_of(2) || id <= streams.last {
                Err(status::PROTOCOL_ERROR)
            } else if streams.open.len() >= MOST_STREAMS {
                streams.last = id;
                Err(status::REFUSED_STREAM)
            } else {
                streams.last = id;
                let window = Arc::new(Window::new(streams.initial, streams.enforced));
                let entry = Entry {
                    inbound: (!fin).then(|| Arc::new(inlet)),
                    window: Arc::clone(&window),
                    credit: Credit::new(id, Some(Arc::clone(&place))),
                    finished: unidirectional,
                };
                let credit = Arc::clone(&entry.credit);
                streams.open.insert(id, entry);
                Ok((window, credit))
            }
        };
        let (window, credit) = match stream {
            Ok(stream) => stream,
            Err(status) => return self.refuse(id, status).await,
        };
        let stream = Stream {
            headers,
            reader: Reader {
                inbound: outlet,
                credit,
                shared: Arc::clone(&self.shared),
            },
            writer: Writer {
                id,
                window,
                shared: Arc::clone(&self.shared),
                place,
                abandoned: status::REFUSED_STREAM,
                finished: unidirectional,
            },
        };
        self.opened.send(stream).await.map_err(|_| Ended)
    }

    /// Hands bytes to their stream. Waits where it has more than it reads: the connection waits with it.
    async fn data(&self, stream: u32, bytes: Bytes) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len();
        let found = {
            let streams = self.shared.streams.lock();
            let entry = streams.open.get(&stream);
            let entry = entry.map(|e| (e.inbound.clone(), Arc::clone(&e.credit)));
            entry.ok_or(stream > streams.last)
        };
        match found {
            // Of one that was reset a moment ago there may be some on its way.
            Err(false) => {}
            Err(true) => self.refuse(stream, status::INVALID_STREAM).await?,
            // Data after its end.
            Ok((None, _)) => self.refuse(stream, status::PROTOCOL_ERROR).await?,
            Ok((Some(inbound), credit)) => {
                if let Err(Unread) = inbound.send(bytes).await {
                    // The client may send more, which nobody reads either.
                    credit.owe(length, &self.shared.out);
                }
            }
        }
        self.credit.owe(length, &self.shared.out);
        Ok(())
    }

    /// The client has ended its direction of a stream.
    fn finish(&self, stream: u32) {
        let mut streams = self.shared.streams.lock();
        let Some(entry) = streams.open.get_mut(&stream) else {
            return;
        };
        if let Some(inbound) = entry.inbound.take() {
            inbound.finish();
        }
        if entry.finished {
            streams.open.remove(&stream);
        }
    }

    async fn window(&self, stream: u32, delta: u32) -> Result<(), Ended> {
        self.shared.enforce();
        let delta = i64::from(delta);
        if stream == 0 {
            return match self.shared.session.grow(delta) {
                true => Ok(()),
                false => Err(Ended),
            };
        }
        let window = {
            let streams = self.shared.streams.lock();
            streams.open.get(&stream).map(|e| Arc::clone(&e.window))
        };
        if window.is_none_or(|window| window.grow(delta)) {
            return Ok(());
        }
        self.shared.forget(stream);
        self.refuse(stream, status::FLOW_CONTROL_ERROR).await
    }
}

/// The task that writes. Whoever waits for room is told when it ends.
async fn write<I: AsyncWrite>(
    mut queued: mpsc::UnboundedReceiver<Queued>,
    to: WriteHalf<I>,
    shared: Arc<Shared>,
) {
    if let Err(fault) = write_all(&mut queued, to).await {
        debug!(%fault, "a SPDY connection breaks");
    }
    queued.close();
    shared.out.close();
    shared.break_off();
}

async fn write_all<I: AsyncWrite>(
    queued: &mut mpsc::UnboundedReceiver<Queued>,
    mut to: WriteHalf<I>,
) -> Result<(), Fault> {
    let mut encoder = Encoder::default();
    let mut bytes = bytes::BytesMut::new();
    while let Some(next) = queued.recv().await {
        match next {
            // Its room is given back once it is written.
            Queued::Frame(frame, _room) => {
                encoder.encode(frame, &mut bytes)?;
                to.write_all(&bytes).await?;
            }
            Queued::Last(frame, _place) => {
                encoder.encode(frame, &mut bytes)?;
                to.write_all(&bytes).await?;
            }
            Queued::Credit(credit) => {
                if let Some(frame) = credit.update() {
                    encoder.encode(frame, &mut bytes)?;
                    to.write_all(&bytes).await?;
                }
            }
            Queued::Farewell(frame) => {
                encoder.encode(frame, &mut bytes)?;
                to.write_all(&bytes).await?;
                break;
            }
        }
        bytes.clear();
        if queued.is_empty() {
            to.flush().await?;
        }
    }
    to.shutdown().await?;
    Ok(())
}
