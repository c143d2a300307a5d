//! Files where they may be changed.

use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::types::{Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags};

use crate::said::{FOLLOW, PAST, READ, WRITE, flags, gave, holds, kind, opened, read, stat, time, told};
use crate::{paths, streams};

pub const ADVICE: [Advice; 6] = [
    Advice::Normal,
    Advice::Sequential,
    Advice::Random,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::NoReuse,
];

pub fn calls(mount: &Descriptor) {
    flags("get-flags of the mount", mount);
    told("the calls' own directory", mount.create_directory_at("calls"));
    let how = READ | DescriptorFlags::MUTATE_DIRECTORY;
    let directory = opened("it is opened", mount, "calls", OpenFlags::DIRECTORY, how);
    if let Some(directory) = directory {
        let file = opening(&directory);
        contents(&directory, &file);
        times(&directory, &file);
        drop(file);
        streams::calls(&directory);
        paths::calls(&directory);
    }
    told("it is removed", mount.remove_directory_at("calls"));
}

/// Gives a file that is empty.
fn opening(directory: &Descriptor) -> Descriptor {
    const CREATE: OpenFlags = OpenFlags::CREATE;
    const NONE: OpenFlags = OpenFlags::empty();
    let only_once = CREATE | OpenFlags::EXCLUSIVE;
    let tried = |what: &str, path: &str, how: OpenFlags, flags: DescriptorFlags| {
        opened(&format!("open-at {what}"), directory, path, how, flags)
    };
    tried("of nothing", "nothing", NONE, READ);
    let file = tried("create exclusive", "file", only_once, READ | WRITE).expect("a file");
    tried("create exclusive again", "file", only_once, READ | WRITE);
    tried("create of what is there", "file", CREATE, READ);
    tried("directory of a file", "file", OpenFlags::DIRECTORY, READ);
    tried("directory create", "new", OpenFlags::DIRECTORY | CREATE, READ);
    tried("file-integrity-sync", "file", NONE, READ | DescriptorFlags::FILE_INTEGRITY_SYNC);
    tried("data-integrity-sync", "file", NONE, READ | DescriptorFlags::DATA_INTEGRITY_SYNC);
    tried("requested-write-sync", "file", NONE, READ | DescriptorFlags::REQUESTED_WRITE_SYNC);
    tried("beneath a file", "file/x", CREATE, READ);
    tried("of the empty path", "", NONE, READ);
    tried("of an absolute path", "/file", NONE, READ);
    tried("that leads out", "../../file", CREATE, READ);
    tried("of a name of 256 bytes", &"n".repeat(256), CREATE, WRITE);
    tried("of a path with a NUL", "fi\0le", NONE, READ);
    tried("of a directory to write", ".", NONE, WRITE);
    opened("open-at in a file", &file, "x", NONE, READ);
    flags("get-flags", &file);
    for (what, how) in [("to read", READ), ("to write", WRITE)] {
        if let Some(file) = tried(what, "file", NONE, how) {
            flags(&format!("get-flags of what was opened {what}"), &file);
        }
    }
    flags("get-flags of a directory", directory);
    gave("get-type", file.get_type().map(kind));
    gave("get-type of a directory", directory.get_type().map(kind));
    file
}

fn contents(directory: &Descriptor, file: &Descriptor) {
    gave("write", file.write(b"0123456789", 0));
    gave("write beyond the end", file.write(b"ab", 12));
    read("read", file, 3, 2);
    read("read of more than there is", file, 64, 9);
    read("read at the end", file, 64, 14);
    told("set-size", file.set_size(4));
    told("set-size to grow", file.set_size(6));
    told("set-size beyond all", file.set_size(u64::MAX));
    read("what is there then", file, 64, 0);
    for advice in ADVICE {
        told("advise", file.advise(0, 4, advice));
    }
    told("sync", file.sync());
    told("sync-data", file.sync_data());
    stat("stat", file.stat());
    told("write to a directory", directory.write(b"x", 0));
    told("read of a directory", directory.read(1, 0));
    told("set-size of a directory", directory.set_size(0));
    told("advise of a directory", directory.advise(0, 0, Advice::Normal));
    told("sync of a directory", directory.sync());
    told("sync-data of a directory", directory.sync_data());
    stat("stat of a directory", directory.stat());
    if let Some(reads) = opened("open-at to read it", directory, "file", OpenFlags::empty(), READ) {
        told("write to what was opened to read", reads.write(b"x", 0));
        told("set-size of that", reads.set_size(0));
    }
    if let Some(writes) = opened("open-at to write it", directory, "file", OpenFlags::empty(), WRITE) {
        told("read of what was opened to write", writes.read(1, 0));
        gave("write to that", writes.write(b"!", 0));
    }
    read("what is there in the end", file, 64, 0);
    let truncated = opened("open-at truncate", directory, "file", OpenFlags::TRUNCATE, WRITE);
    drop(truncated);
    stat("stat of what was truncated", directory.stat_at(FOLLOW, "file"));
}

pub fn at(seconds: u64, nanoseconds: u32) -> NewTimestamp {
    NewTimestamp::Timestamp(Datetime { seconds, nanoseconds })
}

fn times(directory: &Descriptor, file: &Descriptor) {
    let said = |what: &str| {
        let found = file.stat();
        let times = found.map(|found| (found.data_access_timestamp, found.data_modification_timestamp));
        gave(what, times.map(|(accessed, modified)| format!("{} {}", time(accessed), time(modified))));
    };
    told("set-times", file.set_times(at(1, 2), at(3, 4)));
    said("times");
    told("set-times no-change", file.set_times(NewTimestamp::NoChange, at(5, 6)));
    said("times of which one was changed");
    told("set-times beyond all", file.set_times(at(u64::MAX, 0), NewTimestamp::NoChange));
    told("set-times of a directory", directory.set_times(at(7, 0), at(8, 0)));
    told("set-times now", file.set_times(NewTimestamp::NoChange, NewTimestamp::Now));
    let found = file.stat().expect("there it is");
    let modified = found.data_modification_timestamp.map(|time| time.seconds);
    holds("that is now", modified.is_some_and(|seconds| seconds > PAST));
}
