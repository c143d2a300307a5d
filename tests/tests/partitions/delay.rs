//! A cable on which everything takes its time: two TAP devices, between which this process carries the frames.
//!
//! The kernel's own way, `netem`, is a module that many kernels lack.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, ioctl, opcode};

/// A frame of the usual 1,500 bytes with its head, and more.
const LARGEST: usize = 2048;

/// Layer 2, and nothing before the frames (`IFF_TAP`, `IFF_NO_PI`).
const FRAMES: i16 = 0x0002 | 0x1000;
/// `TUNSETIFF` of `linux/if_tun.h`, which has the wrong size in its number.
const SET: u32 = opcode::write::<i32>(b'T', 202);

/// `struct ifreq` as far as TUNSETIFF reads it: 40 bytes.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Makes two devices of these names and carries frames between them for as long as both are there.
///
/// # Errors
/// There is no `/dev/net/tun`, or it may not be used.
pub(crate) fn cable(one: &str, other: &str, takes: Duration) -> io::Result<()> {
    let (one, other) = (Arc::new(tap(one)?), Arc::new(tap(other)?));
    carry(Arc::clone(&one), Arc::clone(&other), takes);
    carry(other, one, takes);
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "the kernel makes a TAP device by an ioctl of its own only"
)]
fn tap(name: &str) -> io::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let mut request = Request {
        name: [0; 16],
        flags: FRAMES,
        rest: [0; 22],
    };
    // The last byte stays nought.
    let room = &mut request.name[..15];
    room.get_mut(..name.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads one `struct ifreq`, which the request is laid out as, and keeps nothing of it.
    unsafe { ioctl(&tun, Setter::<{ SET }, Request>::new(request))? };
    Ok(tun)
}

fn carry(from: Arc<File>, to: Arc<File>, takes: Duration) {
    let (send, sent) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut frame = [0; LARGEST];
        // It fails once the device is gone.
        while let Ok(length) = (&*from).read(&mut frame) {
            let due = Instant::now() + takes;
            if send.send((due, frame[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, frame) in sent {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // Of a device that is down it gets lost, as on any cable.
            let _ = (&*to).write(&frame);
        }
    });
}
