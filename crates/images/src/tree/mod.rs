//! Trees of files: a directory as one archive, and back.
//!
//! Packing is reproducible: entries in the order of their paths, no owners, no times, modes reduced to
//! whether the owner may execute. Unpacking trusts nothing: see [`unpack`].

mod extensions;
mod pack;
mod unpack;

pub use extensions::Extensions;
pub use pack::pack;
pub use unpack::{Limits, Unpacked, aside, bytes, check, remove_leftovers, set_aside, unpack};

/// Whether a symbolic link at `depth` directories below the root stays inside the tree whatever other links
/// there are: its target is relative, climbs at most to the root, and never climbs again after descending
/// (behind a directory that is itself a link, `..` would lead somewhere else than it seems to).
pub fn link_stays_inside(depth: usize, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let (mut climbed, mut descended) = (0, false);
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if descended => return false,
            ".." => climbed += 1,
            _ => descended = true,
        }
    }
    climbed <= depth
}

#[cfg(test)]
mod tests {
    use super::link_stays_inside;

    #[test]
    fn links() {
        for (depth, target) in [
            (0, "a"),
            (0, "./a/b"),
            (1, "../a"),
            (2, "../../a/b"),
            (0, "."),
            (1, ".."),
        ] {
            assert!(link_stays_inside(depth, target), "{depth} {target}");
        }
        for (depth, target) in [
            (0, ""),
            (0, "/etc"),
            (0, ".."),
            (0, "../a"),
            (1, "../../a"),
            (5, "a/../b"),
            (0, "a\0b"),
        ] {
            assert!(!link_stays_inside(depth, target), "{depth} {target}");
        }
    }
}
