use tar::Builder;

use super::super::pack;
use super::*;

fn entry(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    // Past the crate's own checks, as an attacker would.
    let bytes = header.as_gnu_mut().unwrap();
    bytes.name[..name.len()].copy_from_slice(name.as_bytes());
    bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, link) in entries {
        let content: &[u8] = if *kind == EntryType::Regular {
            b"content"
        } else {
            b""
        };
        entry(&mut builder, name, *kind, link, content);
    }
    builder.into_inner().unwrap()
}

fn refused(archive: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("tree");
    let error = unpack(archive, Encoding::Plain, &target, &Limits::default()).unwrap_err();
    assert!(!target.exists());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left"
    );
    assert_eq!(
        check(archive, Encoding::Plain, &Limits::default())
            .unwrap_err()
            .to_string(),
        error.to_string()
    );
    error.to_string()
}

#[test]
fn hostile_archives_are_refused() {
    use EntryType::*;
    type Entries<'a> = &'a [(&'a str, EntryType, &'a str)];
    let table: &[(&str, Entries<'_>)] = &[
        ("leads outside", &[("../evil", Regular, "")]),
        ("leads outside", &[("a/../../evil", Regular, "")]),
        ("leads outside", &[("/etc/evil", Regular, "")]),
        ("might lead outside", &[("l", Symlink, "/etc")]),
        ("might lead outside", &[("l", Symlink, "../x")]),
        ("might lead outside", &[("d/l", Symlink, "a/../../../x")]),
        (
            "no directory",
            &[("l", Symlink, "d"), ("l/evil", Regular, "")],
        ),
        (
            "no directory",
            &[("f", Regular, ""), ("f/evil", Regular, "")],
        ),
        ("twice", &[("f", Regular, ""), ("f", Regular, "")]),
        ("twice", &[("l", Symlink, "d"), ("l", Regular, "")]),
        ("twice", &[("d/f", Regular, ""), ("d", Symlink, "x")]),
        ("hard link", &[("h", Link, "/etc/passwd")]),
        ("device", &[("d", Char, "")]),
        ("device", &[("d", Block, "")]),
        ("pipe", &[("p", Fifo, "")]),
        ("whiteout", &[("d/.wh.x", Regular, "")]),
        ("unknown type", &[("v", EntryType::new(b'V'), "")]),
        ("root", &[("./", Symlink, "x")]),
    ];
    for (want, entries) in table {
        let error = refused(&archive(entries));
        assert!(error.contains(want), "{entries:?}: {error}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let whole = archive(&[("f", EntryType::Regular, "")]);
    assert!(refused(&whole[..700]).contains("damaged"));
    let mut flipped = whole.clone();
    flipped[3] ^= 0x40;
    assert!(refused(&flipped).contains("damaged"));
    assert!(refused(b"not an archive at all, but some text that goes on").contains("damaged"));
}

#[test]
fn limits_hold() {
    let whole = archive(&[("a", EntryType::Regular, ""), ("b", EntryType::Regular, "")]);
    let read = |limits| check(&whole[..], Encoding::Plain, &limits);
    assert_eq!(
        read(Limits {
            entries: 2,
            bytes: 14
        })
        .unwrap(),
        Unpacked {
            entries: 2,
            bytes: 14
        }
    );
    assert!(
        read(Limits {
            entries: 1,
            bytes: 99
        })
        .is_err()
    );
    assert!(
        read(Limits {
            entries: 2,
            bytes: 13
        })
        .is_err()
    );
}

#[test]
fn a_compression_bomb_is_stopped() {
    use std::io::Write;
    let mut bomb = Vec::new();
    let mut gzip = flate2::write::GzEncoder::new(&mut bomb, flate2::Compression::fast());
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(64 << 20);
    header.set_cksum();
    gzip.write_all(header.as_bytes()).unwrap();
    io::copy(&mut io::repeat(0).take((64 << 20) + 1024), &mut gzip).unwrap();
    gzip.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let limits = Limits {
        entries: 10,
        bytes: 1 << 20,
    };
    assert!(check(&bomb[..], Encoding::Gzip, &limits).is_err());
}

#[test]
fn what_describes_a_member_is_bounded() {
    let described = |kind, content: &[u8]| {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, "x", kind, "", content);
        entry(&mut builder, "f", EntryType::Regular, "", b"content");
        builder.into_inner().unwrap()
    };
    let long = vec![b'a'; 65 << 10];
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        assert!(refused(&described(kind, &long)).contains("describes a member"));
    }
    let outside = described(EntryType::XHeader, b"16 path=../evil\n");
    assert!(refused(&outside).contains("leads outside"));
    let size = described(EntryType::XHeader, b"9 size=1\n");
    assert!(refused(&size).contains("two sizes"));
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, "x", EntryType::GNULongName, "", b"f");
    assert!(refused(&builder.into_inner().unwrap()).contains("it ends before"));
    let whole = described(EntryType::GNULongName, b"g\0");
    let limits = Limits {
        entries: 1,
        bytes: 99,
    };
    assert!(check(&whole[..], Encoding::Plain, &limits).is_err());
    let limits = Limits {
        entries: 2,
        bytes: 99,
    };
    check(&whole[..], Encoding::Plain, &limits).unwrap();
}

#[test]
fn packed_and_unpacked_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::create_dir_all(source.join("d".repeat(90))).unwrap();
    fs::create_dir_all(source.join("empty")).unwrap();
    for (name, content) in [("a/b/one", "1"), ("a-first", "2"), (&long, "3")] {
        fs::write(source.join(name), content).unwrap();
    }
    symlink("../a-first", source.join("a/link")).unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    pack(&source, &mut first).unwrap();
    let target = dir.path().join("target");
    let unpacked = unpack(&first[..], Encoding::Plain, &target, &Limits::default()).unwrap();
    assert_eq!((unpacked.bytes, bytes(&target).unwrap()), (3, 3));
    assert_eq!(fs::read_to_string(target.join("a/b/one")).unwrap(), "1");
    assert_eq!(fs::read_to_string(target.join("a/link")).unwrap(), "2");
    assert_eq!(fs::read_to_string(target.join(&long)).unwrap(), "3");
    assert!(target.join("empty").is_dir());
    pack(&target, &mut second).unwrap();
    assert_eq!(first, second);
}

#[test]
fn trees_that_cannot_be_shipped_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    assert!(matches!(
        pack(dir.path(), io::sink()),
        Err(Error::Archive(_))
    ));
    fs::remove_file(dir.path().join("link")).unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    assert!(matches!(
        pack(dir.path(), io::sink()),
        Err(Error::Archive(_))
    ));
}
