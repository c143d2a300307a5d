//! Streams of files.

use wasip2::filesystem::types::{Descriptor, OpenFlags};

use crate::said::{FOLLOW, READ, WRITE, holds, opened, read, streamed, text, told};

pub fn calls(directory: &Descriptor) {
    const CREATE: OpenFlags = OpenFlags::CREATE;
    let Some(file) = opened("a file for streams", directory, "streams", CREATE, READ | WRITE) else {
        return;
    };
    writing(&file);
    reading(&file);
    if let Some(other) = opened("another file", directory, "spliced", CREATE, READ | WRITE) {
        splicing(&file, &other);
    }
    told("read-via-stream of a directory", directory.read_via_stream(0));
    told("write-via-stream of a directory", directory.write_via_stream(0));
    told("append-via-stream of a directory", directory.append_via_stream());
    let reads = directory.open_at(FOLLOW, "streams", OpenFlags::empty(), READ).expect("it is there");
    if let Ok(stream) = reads.write_via_stream(0) {
        let written = stream.blocking_write_and_flush(b"x").map(|()| "ok");
        streamed("a stream into what was opened to read", written);
        streamed("that stream after it failed", stream.check_write().map(|_| "ok"));
    }
    for name in ["streams", "spliced"] {
        told("the file is removed", directory.unlink_file_at(name));
    }
}

fn writing(file: &Descriptor) {
    let stream = file.write_via_stream(0).expect("a stream");
    streamed("blocking-write-and-flush", stream.blocking_write_and_flush(b"0123").map(|()| "ok"));
    let room = stream.check_write();
    holds("check-write", room.is_ok_and(|room| room >= 2));
    streamed("write", stream.write(b"45").map(|()| "ok"));
    streamed("flush", stream.flush().map(|()| "ok"));
    let pollable = stream.subscribe();
    pollable.block();
    holds("it is written once that can be written to again", pollable.ready());
    drop(pollable);
    holds("check-write once more", stream.check_write().is_ok_and(|room| room >= 4));
    streamed("write more", stream.write(b"6789").map(|()| "ok"));
    streamed("blocking-flush", stream.blocking_flush().map(|()| "ok"));
    let zeroes = stream.blocking_write_zeroes_and_flush(2);
    streamed("blocking-write-zeroes-and-flush", zeroes.map(|()| "ok"));
    drop(stream);
    let stream = file.append_via_stream().expect("a stream");
    streamed("a stream that appends", stream.blocking_write_and_flush(b"END").map(|()| "ok"));
    drop(stream);
    read("what was written by streams", file, 64, 0);
}

fn reading(file: &Descriptor) {
    let stream = file.read_via_stream(2).expect("a stream");
    streamed("blocking-read", stream.blocking_read(3).map(|bytes| text(&bytes)));
    streamed("blocking-skip", stream.blocking_skip(2));
    let pollable = stream.subscribe();
    pollable.block();
    holds("what can be read is ready", pollable.ready());
    drop(pollable);
    streamed("read", stream.read(64).map(|bytes| text(&bytes)));
    streamed("blocking-read at the end", stream.blocking_read(64).map(|bytes| text(&bytes)));
    streamed("read after the end", stream.read(64).map(|bytes| text(&bytes)));
}

fn splicing(from: &Descriptor, into: &Descriptor) {
    let (input, output) = (from.read_via_stream(1).expect("a stream"), into.write_via_stream(0).expect("a stream"));
    streamed("blocking-splice", output.blocking_splice(&input, 4));
    streamed("blocking-flush of that", output.blocking_flush().map(|()| "ok"));
    drop((input, output));
    read("what was spliced", into, 64, 0);
}
