//! Names in a directory, and what lies at them.

use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::said::{FOLLOW, READ, gave, holds, kind, opened, stat, time, told};
use crate::writes::at;

const NO_FOLLOW: PathFlags = PathFlags::empty();

/// In a directory that has nothing but `file`, which is empty, and has nothing in the end.
pub fn calls(directory: &Descriptor) {
    making(directory);
    links(directory);
    let how = READ | DescriptorFlags::MUTATE_DIRECTORY;
    if let Some(sub) = opened("open-at of a directory", directory, "sub", OpenFlags::DIRECTORY, how) {
        identity(directory, &sub);
        list("read-directory", &sub);
        moving(directory, &sub);
        list("read-directory of what is empty", &sub);
    }
    told("remove-directory-at", directory.remove_directory_at("sub"));
}

fn making(directory: &Descriptor) {
    told("create-directory-at", directory.create_directory_at("sub"));
    told("create-directory-at again", directory.create_directory_at("sub"));
    told("create-directory-at beneath nothing", directory.create_directory_at("no/sub"));
    told("create-directory-at that leads out", directory.create_directory_at("../../sub"));
    told("symlink-at", directory.symlink_at("../file", "sub/link"));
    told("symlink-at again", directory.symlink_at("../file", "sub/link"));
    told("symlink-at to an absolute path", directory.symlink_at("/file", "absolute"));
    told("symlink-at that leads out", directory.symlink_at("../../../file", "sub/out"));
    told("link-at", directory.link_at(NO_FOLLOW, "file", directory, "sub/hard"));
    told("link-at again", directory.link_at(NO_FOLLOW, "file", directory, "sub/hard"));
    told("link-at of a directory", directory.link_at(NO_FOLLOW, "sub", directory, "other"));
    told("link-at of nothing", directory.link_at(NO_FOLLOW, "nothing", directory, "other"));
    told("link-at symlink-follow", directory.link_at(FOLLOW, "sub/link", directory, "other"));
}

fn links(directory: &Descriptor) {
    gave("readlink-at", directory.readlink_at("sub/link"));
    told("readlink-at of a file", directory.readlink_at("file"));
    told("open-at of a link that is not followed", directory.open_at(NO_FOLLOW, "sub/link", OpenFlags::empty(), READ));
    told("open-at of one that is", directory.open_at(FOLLOW, "sub/link", OpenFlags::empty(), READ));
    told("open-at of one that leads out", directory.open_at(FOLLOW, "sub/out", OpenFlags::empty(), READ));
    told("stat-at of one that leads out", directory.stat_at(FOLLOW, "sub/out"));
    stat("stat-at", directory.stat_at(NO_FOLLOW, "sub/link"));
    stat("stat-at symlink-follow", directory.stat_at(FOLLOW, "sub/link"));
    stat("stat-at of nothing", directory.stat_at(NO_FOLLOW, "nothing"));
    stat("stat-at beneath a file", directory.stat_at(NO_FOLLOW, "file/x"));
    stat("stat-at of the directory itself", directory.stat_at(NO_FOLLOW, "."));
    told("set-times-at symlink-follow", directory.set_times_at(FOLLOW, "sub/link", at(5, 0), at(6, 0)));
    told("set-times-at", directory.set_times_at(NO_FOLLOW, "sub/link", at(7, 0), at(8, 0)));
    told("set-times-at of nothing", directory.set_times_at(NO_FOLLOW, "nothing", at(7, 0), at(8, 0)));
    for (what, path) in [("the file was changed at", "file"), ("the link was changed at", "sub/link")] {
        let found = directory.stat_at(NO_FOLLOW, path);
        gave(what, found.map(|found| time(found.data_modification_timestamp)));
    }
}

fn identity(directory: &Descriptor, sub: &Descriptor) {
    let open = |from: &Descriptor, path: &str| from.open_at(FOLLOW, path, OpenFlags::empty(), READ).expect("it is there");
    let (file, hard) = (open(directory, "file"), open(sub, "hard"));
    holds("is-same-object", file.is_same_object(&hard) && sub.is_same_object(&open(directory, "sub")));
    holds("is-same-object of others", !file.is_same_object(sub) && !directory.is_same_object(sub));
    let parts = |hash: Result<wasip2::filesystem::types::MetadataHashValue, ErrorCode>| {
        hash.map(|hash| (hash.lower, hash.upper)).map_err(|error| error.name())
    };
    let hash = parts(file.metadata_hash());
    holds("metadata-hash", hash.is_ok() && hash == parts(hard.metadata_hash()));
    holds("metadata-hash of another", hash != parts(sub.metadata_hash()));
    holds("metadata-hash-at", hash == parts(directory.metadata_hash_at(NO_FOLLOW, "sub/hard")));
    holds("metadata-hash-at symlink-follow", hash == parts(directory.metadata_hash_at(FOLLOW, "sub/link")));
    holds("metadata-hash-at of the link", hash != parts(directory.metadata_hash_at(NO_FOLLOW, "sub/link")));
    told("metadata-hash-at of nothing", directory.metadata_hash_at(FOLLOW, "nothing"));
    told("read-directory of a file", file.read_directory());
    told("stat-at in a file", file.stat_at(FOLLOW, "x"));
}

/// What is in a directory, in the order of its names.
pub fn list(what: &str, directory: &Descriptor) {
    let names = || -> Result<String, ErrorCode> {
        let (stream, mut names) = (directory.read_directory()?, Vec::new());
        while let Some(entry) = stream.read_directory_entry()? {
            names.push(format!("{} ({})", entry.name, kind(entry.type_)));
        }
        names.sort();
        Ok(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
    };
    gave(what, names());
}

fn moving(directory: &Descriptor, sub: &Descriptor) {
    told("rename-at", directory.rename_at("file", sub, "renamed"));
    told("rename-at of nothing", directory.rename_at("file", sub, "other"));
    told("create-directory-at beside it", directory.create_directory_at("other"));
    told("rename-at over a directory", sub.rename_at("renamed", directory, "other"));
    told("rename-at of a directory over a file", directory.rename_at("other", sub, "renamed"));
    told("rename-at of a directory over one that is not empty", directory.rename_at("other", directory, "sub"));
    told("rename-at of a directory", directory.rename_at("other", sub, "other"));
    told("rename-at of a directory into itself", directory.rename_at("sub", sub, "sub"));
    told("rename-at that leads out", sub.rename_at("renamed", directory, "../../renamed"));
    told("remove-directory-at of what is empty", sub.remove_directory_at("other"));
    told("remove-directory-at of what is not", directory.remove_directory_at("sub"));
    told("remove-directory-at of a file", sub.remove_directory_at("renamed"));
    told("unlink-file-at of a directory", directory.unlink_file_at("sub"));
    told("unlink-file-at of nothing", directory.unlink_file_at("nothing"));
    for name in ["renamed", "link", "hard", "out"] {
        told(&format!("unlink-file-at of {name}"), sub.unlink_file_at(name));
    }
}
