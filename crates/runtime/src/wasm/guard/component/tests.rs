use std::collections::BTreeSet;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::super::budget::{Budget, Share};
use super::preopens::Host as _;
use super::*;
use crate::gate::Gate;

#[tokio::test]
async fn few_directories_are_listed_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let names: BTreeSet<String> = (0..500).map(|n| format!("{n:0>100}")).collect();
    for name in &names {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let mut wasi = WasiCtxBuilder::new();
    let opened = wasi.preopened_dir(directory.path(), "/", FsPerms::ReadWrite);
    opened.unwrap();
    let (mut wasi, mut table) = (wasi.build(), ResourceTable::new());
    let share = Share::new(Budget::new(1_000, 1).hold(0).unwrap());
    let gate = Gate::start(1, tokio::runtime::Handle::current(), || ()).unwrap();
    let mut guard = Guard::new(None, None, None, share, gate.account(1, None));
    let mut view = GuardedView {
        stock: WasiFilesystemCtxView {
            ctx: wasi.filesystem(),
            table: &mut table,
        },
        guard: &mut guard,
    };
    let (root, _) = view.get_directories().unwrap().remove(0);
    let root = || Resource::new_borrow(root.rep());
    let mut streams = Vec::new();
    for _ in 0..MOST_LISTINGS {
        streams.push(view.read_directory(root()).await.unwrap());
    }
    let refused = view.read_directory(root()).await.unwrap_err();
    let code = refused.downcast_ref();
    assert!(matches!(code, Some(types::ErrorCode::InsufficientMemory)));
    let ended = streams.pop().unwrap();
    HostDirectoryEntryStream::drop(&mut view, ended).unwrap();
    let stream = view.read_directory(root()).await.unwrap();
    let mut listed = Vec::new();
    loop {
        let stream = Resource::new_borrow(stream.rep());
        let Some(entry) = view.read_directory_entry(stream).await.unwrap() else {
            break;
        };
        assert_eq!(entry.type_, types::DescriptorType::RegularFile);
        listed.push(entry.name);
    }
    assert_eq!(listed.len(), names.len());
    assert_eq!(BTreeSet::from_iter(listed), names);
}
