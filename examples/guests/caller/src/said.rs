//! What is said of an answer.

use std::fmt::Display;

use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags, PathFlags, filesystem_error_code,
};
use wasip2::io::streams::StreamError;

pub const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
pub const READ: DescriptorFlags = DescriptorFlags::READ;
pub const WRITE: DescriptorFlags = DescriptorFlags::WRITE;

/// The beginning of 2024, in seconds.
pub const PAST: u64 = 1_704_067_200;

pub fn told<T>(what: &str, result: Result<T, ErrorCode>) {
    gave(what, result.map(|_| "ok"));
}

pub fn gave(what: &str, result: Result<impl Display, ErrorCode>) {
    match result {
        Ok(value) => println!("{what}: {value}"),
        Err(error) => println!("{what}: {}", error.name()),
    }
}

pub fn streamed(what: &str, result: Result<impl Display, StreamError>) {
    match result {
        Ok(value) => println!("{what}: {value}"),
        Err(StreamError::Closed) => println!("{what}: closed"),
        Err(StreamError::LastOperationFailed(error)) => {
            let code = filesystem_error_code(&error);
            println!("{what}: failed with {}", code.map_or("no code", |code| code.name()));
        }
    }
}

pub fn holds(what: &str, is_so: bool) {
    println!("{what}: {}", if is_so { "yes" } else { "NO" });
}

/// Opens, and says what comes of it.
pub fn opened(
    what: &str,
    directory: &Descriptor,
    path: &str,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> Option<Descriptor> {
    let opened = directory.open_at(FOLLOW, path, how, flags);
    gave(what, opened.as_ref().map(|_| "ok").map_err(|error| *error));
    opened.ok()
}

pub fn flags(what: &str, descriptor: &Descriptor) {
    let said = |flags: DescriptorFlags| {
        let names = [
            (DescriptorFlags::READ, "read"),
            (DescriptorFlags::WRITE, "write"),
            (DescriptorFlags::FILE_INTEGRITY_SYNC, "file-integrity-sync"),
            (DescriptorFlags::DATA_INTEGRITY_SYNC, "data-integrity-sync"),
            (DescriptorFlags::REQUESTED_WRITE_SYNC, "requested-write-sync"),
            (DescriptorFlags::MUTATE_DIRECTORY, "mutate-directory"),
        ];
        let set = names.into_iter().filter(|(flag, _)| flags.contains(*flag));
        set.map(|(_, name)| name).collect::<Vec<_>>().join(" ")
    };
    gave(what, descriptor.get_flags().map(said));
}

pub fn kind(of: DescriptorType) -> &'static str {
    match of {
        DescriptorType::RegularFile => "regular-file",
        DescriptorType::Directory => "directory",
        DescriptorType::SymbolicLink => "symbolic-link",
        _ => "something else",
    }
}

/// How many names and bytes a directory has is the file system's own affair.
pub fn stat(what: &str, found: Result<DescriptorStat, ErrorCode>) {
    let said = |found: DescriptorStat| match found.type_ {
        DescriptorType::Directory => kind(found.type_).to_owned(),
        other => format!("{}, {} names, {} bytes", kind(other), found.link_count, found.size),
    };
    gave(what, found.map(said));
}

pub fn time(of: Option<Datetime>) -> String {
    of.map_or_else(|| "none".to_owned(), |time| format!("{}.{:09}", time.seconds, time.nanoseconds))
}

/// Text with a point for each zero.
pub fn text(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes).replace('\0', "."))
}

/// What is read from an offset on, and whether that is all.
pub fn read(what: &str, file: &Descriptor, length: u64, offset: u64) {
    let said = |(bytes, end): (Vec<u8>, bool)| format!("{}{}", text(&bytes), if end { ", the end" } else { "" });
    gave(what, file.read(length, offset).map(said));
}
