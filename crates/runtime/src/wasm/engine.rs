//! What an engine is: how it compiles, and its pool of instances, sized by what the system can map.

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::Handler;

/// Memory mappings that an instance's place in a pool takes: its linear memory, its tables and its stack, each
/// with the guard beside it.
const MAPPINGS_PER_INSTANCE: u64 = 6;

/// Mappings that are left to everything else in the process: code, threads, the heap.
const MAPPINGS_FOR_THE_REST: u64 = 4_000;

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// How many instances the pool holds when `wanted` are asked for: as many as the system lets this
/// process map, after raising its bound where that is allowed.
pub(super) fn capacity(wanted: u32) -> u32 {
    let needed = u64::from(wanted) * MAPPINGS_PER_INSTANCE + MAPPINGS_FOR_THE_REST;
    let mut most = max_map_count();
    if most < needed && std::fs::write(MAX_MAP_COUNT, needed.to_string()).is_ok() {
        most = max_map_count();
        tracing::info!(
            most,
            "raised vm.max_map_count, for room for {wanted} guests"
        );
    }
    let capacity = possible(most, wanted);
    if capacity < wanted {
        tracing::warn!(
            wanted,
            capacity,
            "vm.max_map_count is {most}: raise it to {needed} for more guests on this node"
        );
    }
    capacity
}

/// How many more than the `first`, which another pool has, a pool holds when `wanted` are asked for. The first are counted as if all
/// lived: the stacks of a pool are mapped from its beginning on, and what an instance took stays mapped when it has ended.
pub(super) fn capacity_beside(first: u32, wanted: u32) -> u32 {
    capacity(first.saturating_add(wanted)).saturating_sub(first)
}

/// How many of the `wanted` so many mappings are enough for: one at least.
fn possible(mappings: u64, wanted: u32) -> u32 {
    let possible = mappings.saturating_sub(MAPPINGS_FOR_THE_REST) / MAPPINGS_PER_INSTANCE;
    // More than any u32 are as many as anybody wants.
    u32::try_from(possible)
        .unwrap_or(u32::MAX)
        .min(wanted)
        .max(1)
}

fn max_map_count() -> u64 {
    // Linux's own default, should /proc not be there.
    let default = 65_530;
    let text = std::fs::read_to_string(MAX_MAP_COUNT).unwrap_or_default();
    text.trim().parse().unwrap_or(default)
}

/// The most linear memories and tables of a component, which is made of several modules.
pub(super) const MOST_MEMORIES: u32 = 8;
pub(super) const MOST_TABLES: u32 = 32;

/// Tables that each place in a pool comes with, besides one memory.
pub(super) const TABLES_PER_INSTANCE: u32 = 3;

/// One garbage-collected heap comes with so many places.
const PLACES_PER_HEAP: u32 = 4;

/// The most modules that a component is made of: the program, and what adapts it.
const MOST_CORE_INSTANCES: u32 = 64;

/// How many garbage-collected heaps a pool has, in which exceptions and references live.
pub(super) fn heaps(instances: u32) -> u32 {
    instances.div_ceil(PLACES_PER_HEAP)
}

fn pool(handler: Handler, instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Unlike memories and tables they are not set aside: there are as many as there may be.
    let core_instances = instances.saturating_mul(MOST_CORE_INSTANCES);
    // Each takes a memory's place.
    let heaps = heaps(instances);
    pool.total_component_instances(instances)
        .total_core_instances(core_instances)
        .max_core_instances_per_component(MOST_CORE_INSTANCES)
        .total_memories(instances.saturating_add(heaps))
        .max_memories_per_component(MOST_MEMORIES)
        .max_memories_per_module(4)
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .max_tables_per_component(MOST_TABLES)
        .max_tables_per_module(16)
        // Big programs (Yosys, Ruby) have tens of thousands of indirect functions.
        .table_elements(200_000)
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(8 << 20)
        .total_stacks(instances)
        .total_gc_heaps(heaps)
        .max_memory_size(reservation(handler))
        .max_unused_warm_slots(instances.min(100))
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Addresses that each memory has to itself, besides the guard behind it, used or not. Linux gives a process 128 TiB, which
/// its program parts into 85 and 42: the one holds 21,500 memories of 4 GiB, which the default pool of 16,000 instances
/// nearly takes, and the other the 17 TiB of the 62,500 that 50,000 dense ones come to.
fn reservation(handler: Handler) -> usize {
    // Addresses have 64 bits here.
    handler.largest_memory() as usize
}

/// Makes an engine for at most `instances` guests at a time.
pub(super) fn engine(handler: Handler, instances: u32) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Interpreters recurse deeply; the stack is mapped, not resident.
        .max_wasm_stack(1 << 20)
        .async_stack_size(2 << 20)
        .wasm_exceptions(true)
        .memory_reservation(reservation(handler) as u64)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            handler, instances,
        )));
    Engine::new(&config)
}

/// What names of compiled code say beside the fingerprint. It changes as they do, so that no other version's are taken for ours.
const NAMES: u32 = 2;

/// What code that this engine has compiled may be loaded by: the same wasmtime, settings and CPU.
pub(super) fn fingerprint(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    NAMES.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_no_larger_than_the_system_can_map() {
        let capacity = u64::from(capacity(100));
        assert!((1..=100).contains(&capacity));
        assert!(capacity * MAPPINGS_PER_INSTANCE < max_map_count());
    }

    #[test]
    fn pools_part_what_can_be_mapped() {
        for (mappings, parts) in [
            (0, (1, 0)),
            // Linux's own default, and what some systems have: all is the default pool's, or what it leaves is the other's.
            (65_530, (10_255, 0)),
            (262_144, (16_000, 27_024)),
            (400_000, (16_000, 50_000)),
            (u64::MAX, (16_000, 50_000)),
        ] {
            let first = possible(mappings, 16_000);
            let both = possible(mappings, first + 50_000);
            assert_eq!((first, both - first), parts, "{mappings}");
        }
        assert_eq!(capacity_beside(capacity(100), 0), 0);
    }

    #[test]
    fn the_fingerprint_is_stable() {
        let of = |handler, instances| fingerprint(&engine(handler, instances).unwrap());
        for handler in Handler::ALL {
            assert_eq!(of(handler, 4), of(handler, 8));
        }
        assert_ne!(of(Handler::Carob, 4), of(Handler::Dense, 4));
    }
}
