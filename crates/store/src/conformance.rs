//! openraft's own suite for storage, run on ours.

use std::fs::File;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::StoreBuilder;
use openraft::testing::log::Suite;

use crate::copier::Copier;
use crate::copy::Copy;
use crate::machine::Machine;
use crate::types::TypeConfig;
use crate::wal::Wal;

struct Builder;

impl StoreBuilder<TypeConfig, Wal, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Wal, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("dir");
        let lock = Arc::new(File::create(dir.path().join("lock")).expect("lock"));
        let log = dir.path().join("log");
        std::fs::create_dir(&log).expect("log");
        let wal = Wal::open(&log, &lock).expect("log");
        let copy = Copy::open(&dir.path().join("state"), &lock).expect("copy");
        let checkpoint = copy.held().clone();
        let (machine, _) = Machine::new(
            dir.path(),
            checkpoint,
            100,
            Copier::start(copy).expect("copier"),
        );
        Ok((dir, wal, machine))
    }
}

#[test]
fn the_log_and_the_state_machine_pass_openrafts_suite() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(Suite::test_all(Builder)).expect("suite");
}
