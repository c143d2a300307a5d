//! `poll_oneoff`: waiting for clocks, sockets, termination and wasmtime-wasi's streams and files at once.
//!
//! Clocks and what has a number of wasmtime-wasi's own are left to it: they become a call of its own, in memory made for it.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use wasmtime_wasi::p1::types::{
    Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Subscription, SubscriptionFdReadwrite,
    SubscriptionU,
};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as stock};
use wiggle::{GuestMemory, GuestPtr, GuestType as _};

use super::Result;
use super::call::{Call, passed};
use super::descriptors::{Descriptor, Descriptors};

/// The most subscriptions that one call may have: more than a guest has descriptors for.
const MOST: u32 = 16 << 10;

/// What a subscription is about.
#[derive(Clone, Copy)]
enum Subject {
    /// A clock, or what has a number of wasmtime-wasi's own.
    Stock,
    Readable(u32),
    Writable(u32),
    /// Nothing that can be waited for.
    Never(Errno, Eventtype),
}

/// The subscriptions of a call.
struct Asked {
    subscriptions: Vec<Subscription>,
    subjects: Vec<Subject>,
}

impl Asked {
    /// # Errors
    /// [`Errno::Inval`] for none, too many, or what is no subscription; a trap where they do not lie in memory.
    fn read(
        memory: &GuestMemory<'_>,
        descriptors: &mut Descriptors,
        at: u32,
        count: u32,
    ) -> Result<Self> {
        if !(1..=MOST).contains(&count) {
            return Err(Errno::Inval.into());
        }
        let (mut subscriptions, mut subjects) = (Vec::new(), Vec::new());
        for at in GuestPtr::<Subscription>::new(at).as_array(count).iter() {
            let mut subscription = memory.read(at?)?;
            subjects.push(subject(&mut subscription.u, descriptors));
            subscriptions.push(subscription);
        }
        Ok(Self {
            subscriptions,
            subjects,
        })
    }

    /// Those that are wasmtime-wasi's.
    fn stock(&self) -> impl Iterator<Item = (usize, &Subscription)> {
        let all = self.subscriptions.iter().zip(&self.subjects).enumerate();
        all.filter_map(|(index, (subscription, subject))| {
            matches!(subject, Subject::Stock).then_some((index, subscription))
        })
    }

    /// The events of what is ours and ready; each one's waker is registered where it is not.
    fn ready(&self, descriptors: &mut Descriptors, cx: &mut Context<'_>) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        for (index, subject) in self.subjects.iter().enumerate() {
            let found = match *subject {
                Subject::Stock => continue,
                Subject::Never(error, type_) => Poll::Ready((error, type_, NOTHING)),
                Subject::Readable(fd) => readable(descriptors, fd, cx)
                    .map(|found| (Errno::Success, Eventtype::FdRead, found)),
                Subject::Writable(fd) => writable(descriptors, fd, cx)
                    .map(|found| (Errno::Success, Eventtype::FdWrite, found)),
            };
            if let Poll::Ready((error, type_, fd_readwrite)) = found {
                let event = Event {
                    userdata: self.subscriptions[index].userdata,
                    error,
                    type_,
                    fd_readwrite,
                };
                events.push((index, event));
            }
        }
        events
    }
}

const NOTHING: EventFdReadwrite = EventFdReadwrite {
    nbytes: 0,
    flags: Eventrwflags::empty(),
};

/// What a subscription is about, which is given wasmtime-wasi's number where it has one.
fn subject(of: &mut SubscriptionU, descriptors: &mut Descriptors) -> Subject {
    let (type_, asked) = match of {
        SubscriptionU::Clock(_) => return Subject::Stock,
        SubscriptionU::FdRead(asked) => (Eventtype::FdRead, asked),
        SubscriptionU::FdWrite(asked) => (Eventtype::FdWrite, asked),
    };
    let fd = u32::from(asked.file_descriptor);
    match (descriptors.get(fd), type_) {
        (Ok(Descriptor::Stock(number)), _) => {
            *asked = SubscriptionFdReadwrite {
                file_descriptor: (*number).into(),
            };
            Subject::Stock
        }
        (Ok(_), Eventtype::FdRead) => Subject::Readable(fd),
        (Ok(_), _) => Subject::Writable(fd),
        (Err(_), type_) => Subject::Never(Errno::Badf, type_),
    }
}

fn readable(
    descriptors: &mut Descriptors,
    fd: u32,
    cx: &mut Context<'_>,
) -> Poll<EventFdReadwrite> {
    match descriptors.get(fd) {
        Ok(Descriptor::Listening(listening)) => listening.poll_accept(cx),
        Ok(Descriptor::Connection(connection)) => connection.poll_read(cx),
        Ok(Descriptor::Termination(termination)) => termination.poll_begun(cx).map(|()| END),
        _ => Poll::Pending,
    }
}

/// What is told of something that has nothing more to read.
const END: EventFdReadwrite = EventFdReadwrite {
    nbytes: 0,
    flags: Eventrwflags::FD_READWRITE_HANGUP,
};

/// Nothing can ever be written to a listener or to what tells of termination, for which `poll` waits as Linux' does.
fn writable(
    descriptors: &mut Descriptors,
    fd: u32,
    cx: &mut Context<'_>,
) -> Poll<EventFdReadwrite> {
    match descriptors.get(fd) {
        Ok(Descriptor::Connection(connection)) => connection.poll_write(cx),
        _ => Poll::Pending,
    }
}

/// Memory for a call of wasmtime-wasi's own: subscriptions, and room for their events and the events' number.
struct Scratch {
    bytes: Vec<u8>,
    /// Where in `bytes` addresses begin: aligned as a guest's memory is.
    begin: usize,
    count: u32,
}

impl Scratch {
    /// Of the asked subscriptions those that are wasmtime-wasi's, each with its index for its userdata.
    fn of(asked: &Asked) -> Result<Self> {
        let count = u32::try_from(asked.stock().count())?;
        let length = Self::event(count, count) + u32::guest_size();
        let mut bytes = vec![0; usize::try_from(length)? + ALIGNMENT];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT);
        let mut memory = GuestMemory::Unshared(&mut bytes[begin..]);
        for ((index, subscription), at) in asked.stock().zip(Self::subscriptions(count).iter()) {
            let mut subscription = subscription.clone();
            subscription.userdata = index as u64;
            memory.write(at?, subscription)?;
        }
        Ok(Self {
            bytes,
            begin,
            count,
        })
    }

    fn subscriptions(count: u32) -> GuestPtr<[Subscription]> {
        GuestPtr::<Subscription>::new(0).as_array(count)
    }

    /// Where the event of this number goes; the one after the last is where their number does.
    fn event(count: u32, number: u32) -> u32 {
        count * Subscription::guest_size() + number * Event::guest_size()
    }

    /// Waits until one of them is ready, for ever where there is none.
    async fn wait(&mut self, wasi: &mut WasiP1Ctx) -> Result<i32> {
        if self.count == 0 {
            return pending().await;
        }
        let mut memory = GuestMemory::Unshared(&mut self.bytes[self.begin..]);
        let [events, count, found] = [
            Self::event(self.count, 0),
            self.count,
            Self::event(self.count, self.count),
        ]
        .map(u32::cast_signed);
        passed(stock::poll_oneoff(wasi, &mut memory, 0, events, count, found).await)
    }

    /// The events of those that are ready, in place of which the indices are what they were made from.
    fn events(&mut self, asked: &Asked) -> Result<Vec<(usize, Event)>> {
        let memory = GuestMemory::Unshared(&mut self.bytes[self.begin..]);
        let found = Self::event(self.count, self.count);
        let found = memory.read(GuestPtr::<u32>::new(found))?;
        let events = (0..found.min(self.count)).map(|number| {
            let at = Self::event(self.count, number);
            let mut event = memory.read(GuestPtr::<Event>::new(at))?;
            let index = usize::try_from(event.userdata)?;
            let subscription = asked.subscriptions.get(index).ok_or(Errno::Inval)?;
            event.userdata = subscription.userdata;
            Ok((index, event))
        });
        events.collect()
    }
}

const ALIGNMENT: usize = 8;

impl Call<'_> {
    pub(super) async fn poll_oneoff(
        &mut self,
        subscriptions: u32,
        events: u32,
        count: u32,
        found: u32,
    ) -> Result<i32> {
        let asked = Asked::read(&self.memory, self.descriptors, subscriptions, count)?;
        let mut scratch = Scratch::of(&asked)?;
        let (answer, mut ready) = {
            let mut stock = pin!(scratch.wait(self.wasi));
            // Both are looked at whenever either has changed, so that all that is ready is told.
            poll_fn(|cx| {
                let answer = stock.as_mut().poll(cx);
                let ready = asked.ready(self.descriptors, cx);
                match answer.is_pending() && ready.is_empty() {
                    true => Poll::Pending,
                    false => Poll::Ready((answer, ready)),
                }
            })
            .await
        };
        match answer {
            Poll::Ready(Ok(0)) => ready.extend(scratch.events(&asked)?),
            Poll::Ready(refused) => return refused,
            Poll::Pending => {}
        }
        ready.sort_by_key(|(index, _)| *index);
        let number = u32::try_from(ready.len())?;
        let all = GuestPtr::<Event>::new(events).as_array(number);
        for ((_, event), at) in ready.into_iter().zip(all.iter()) {
            self.memory.write(at?, event)?;
        }
        self.put(found, number)
    }
}
