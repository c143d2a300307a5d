//! The version of this binary and the platforms it runs on.

use anyhow::{Result, bail};

/// This binary's version, as written into data directories and shown by `carob version`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Refuses platforms that the runtime was never tried on.
pub(crate) fn check_platform() -> Result<()> {
    let supported = cfg!(target_os = "linux")
        && (cfg!(target_arch = "x86_64") || cfg!(target_arch = "aarch64"));
    if !supported {
        bail!("carob runs on Linux on x86-64 and arm64 (WSL2 included)");
    }
    Ok(())
}

/// Refuses a data directory that a newer or otherwise incompatible carob wrote.
///
/// Patch releases share a format; a minor or major step may not.
pub(crate) fn check_data(written_by: &str, place: &std::path::Path) -> Result<()> {
    let series = |v: &str| v.split('.').take(2).collect::<Vec<_>>().join(".");
    if series(written_by) != series(VERSION) {
        bail!(
            "{} was written by carob {written_by} and this is carob {VERSION}: \
             use a carob {}.x binary, or another --data-dir",
            place.display(),
            series(written_by),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_releases_share_data_and_others_do_not() {
        let dir = std::path::Path::new("/data");
        assert!(check_data(VERSION, dir).is_ok());
        let refused = check_data("99.1.0", dir).unwrap_err().to_string();
        assert!(
            refused.contains("99.1.0") && refused.contains("/data"),
            "{refused}"
        );
    }
}
