//! Files where they may not be changed.

use wasip2::filesystem::types::{Descriptor, NewTimestamp, OpenFlags, PathFlags};

use crate::paths::list;
use crate::said::{FOLLOW, READ, WRITE, flags, gave, opened, read, stat, streamed, text, told};
use crate::writes::{ADVICE, at};

/// What is there to be read.
pub fn prepare(mount: &Descriptor) {
    let file = mount.open_at(FOLLOW, "file", OpenFlags::CREATE, WRITE).expect("a file");
    gave("write", file.write(b"text", 0));
    told("symlink-at", mount.symlink_at("file", "link"));
    told("create-directory-at", mount.create_directory_at("sub"));
}

pub fn calls(mount: &Descriptor) {
    flags("get-flags of the mount", mount);
    if let Some(file) = opened("open-at to read", mount, "link", OpenFlags::empty(), READ) {
        flags("get-flags", &file);
        read("read", &file, 64, 0);
        stat("stat", file.stat());
        let stream = file.read_via_stream(1).expect("a stream");
        streamed("a stream", stream.blocking_read(64).map(|bytes| text(&bytes)));
        told("write", file.write(b"x", 0));
        told("write-via-stream", file.write_via_stream(0));
        told("append-via-stream", file.append_via_stream());
        told("set-size", file.set_size(0));
        told("set-size to grow", file.set_size(1 << 20));
        told("set-times", file.set_times(at(1, 0), at(2, 0)));
        told("sync", file.sync());
        told("sync-data", file.sync_data());
        told("advise", file.advise(0, 0, ADVICE[0]));
    }
    if let Some(sub) = opened("open-at of a directory", mount, "sub", OpenFlags::DIRECTORY, READ) {
        told("create-directory-at beneath it", sub.create_directory_at("new"));
        told("set-times of it", sub.set_times(NewTimestamp::Now, NewTimestamp::Now));
    }
    changes(mount);
    told("open-at of nothing", mount.open_at(FOLLOW, "nothing", OpenFlags::empty(), READ));
    stat("stat-at", mount.stat_at(PathFlags::empty(), "link"));
    gave("readlink-at", mount.readlink_at("link"));
    told("metadata-hash-at", mount.metadata_hash_at(FOLLOW, "link"));
    list("read-directory", mount);
}

/// What is refused whatever is there.
pub fn changes(mount: &Descriptor) {
    const NO_FOLLOW: PathFlags = PathFlags::empty();
    let refused = |what: &str, path: &str, how: OpenFlags, flags| {
        told(what, mount.open_at(FOLLOW, path, how, flags));
    };
    refused("open-at to write", "file", OpenFlags::empty(), READ | WRITE);
    refused("open-at create", "new", OpenFlags::CREATE, READ);
    refused("open-at create exclusive", "new", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, WRITE);
    refused("open-at truncate", "file", OpenFlags::TRUNCATE, READ);
    told("create-directory-at", mount.create_directory_at("new"));
    told("symlink-at", mount.symlink_at("file", "new"));
    told("link-at", mount.link_at(NO_FOLLOW, "file", mount, "new"));
    told("rename-at", mount.rename_at("file", mount, "new"));
    told("unlink-file-at", mount.unlink_file_at("file"));
    told("remove-directory-at", mount.remove_directory_at("sub"));
    told("set-times-at", mount.set_times_at(NO_FOLLOW, "file", at(1, 0), at(2, 0)));
}
