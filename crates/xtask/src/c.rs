//! The tests' guests in C, built for WASI preview 1 by Debian's clang and wasi-libc, which `packages` has fetched.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{Package, Place, Registry, copy_of};
use crate::project;
use crate::step::Step;

const fn debian(
    name: &'static str,
    version: &'static str,
    file: &'static str,
    sha256: &'static str,
    places: &'static [Place],
) -> Package {
    Package {
        name,
        version,
        registry: Registry::Debian,
        file,
        sha256,
        places,
    }
}

/// The compiler, its linker, the C library, and those of the libraries that they are linked with which few machines have.
pub(crate) const TOOLCHAIN: [Package; 10] = [
    debian(
        "clang-14",
        "1:14.0.6-12",
        "clang-14_1%3a14.0.6-12_amd64.deb",
        "e66721b4fd2c47aa326a4100d9dfdbd8838e04c17479da560d88ac1aab5ea863",
        &[copy_of("usr/lib/llvm-14/bin/clang", "c/bin/clang")],
    ),
    debian(
        "libclang-cpp14",
        "1:14.0.6-12",
        "libclang-cpp14_1%3a14.0.6-12_amd64.deb",
        "964b13d74e9aece340cde93fecd2a2f18dd63afcb707a797ce7b39d430a01c46",
        &[copy_of(
            "usr/lib/llvm-14/lib/libclang-cpp.so.14",
            "c/lib/libclang-cpp.so.14",
        )],
    ),
    debian(
        "libclang-common-14-dev",
        "1:14.0.6-12",
        "libclang-common-14-dev_1%3a14.0.6-12_all.deb",
        "838781bfc798bcbdca68516db6546cf83677078efa57851bb957c19e265de7c6",
        &[copy_of(
            "usr/lib/llvm-14/lib/clang/14.0.6/include",
            "c/lib/clang/14.0.6/include",
        )],
    ),
    debian(
        "libclang-rt-14-dev-wasm32",
        "1:14.0.6-12",
        "libclang-rt-14-dev-wasm32_1%3a14.0.6-12_all.deb",
        "d997240904fa3b0ed62f759fb374082004d15bb1fb27c990fe98657e3287c9c4",
        &[copy_of(
            "usr/lib/llvm-14/lib/clang/14.0.6/lib/wasi",
            "c/lib/clang/14.0.6/lib/wasi",
        )],
    ),
    debian(
        "lld-14",
        "1:14.0.6-12",
        "lld-14_1%3a14.0.6-12_amd64.deb",
        "3b77ab0cc30bbba9e874ba57cabc090116ed52d5eebaa043cf1e1412c4523a99",
        // It is what it is called, and clang calls this one.
        &[copy_of("usr/lib/llvm-14/bin/lld", "c/bin/wasm-ld-14")],
    ),
    debian(
        "wasi-libc",
        "0.0~git20220510.9886d3d-2",
        "wasi-libc_0.0~git20220510.9886d3d-2_all.deb",
        "513e25eeca77f7e31adf928b684714dd656cc6bc70c2970abfe3b4117e3b736f",
        &[
            copy_of("usr/include/wasm32-wasi", "c/include/wasm32-wasi"),
            copy_of("usr/lib/wasm32-wasi", "c/lib/wasm32-wasi"),
        ],
    ),
    debian(
        "libllvm14",
        "1:14.0.6-12",
        "libllvm14_1%3a14.0.6-12_amd64.deb",
        "cd986403cfe53f47c41b80667f6b344c40fe35de4c5081dad9358b4c77cf64a8",
        &[copy_of(
            "usr/lib/x86_64-linux-gnu/libLLVM-14.so.1",
            "c/lib/libLLVM-14.so.1",
        )],
    ),
    debian(
        "libz3-4",
        "4.8.12-3.1",
        "libz3-4_4.8.12-3.1_amd64.deb",
        "6221ca25ad5abcfbe1965801029d85a88b4775320384b4b716de8fab7a4d2f7a",
        &[copy_of(
            "usr/lib/x86_64-linux-gnu/libz3.so.4",
            "c/lib/libz3.so.4",
        )],
    ),
    debian(
        "libedit2",
        "3.1-20221030-2",
        "libedit2_3.1-20221030-2_amd64.deb",
        "1cf14abf2716d3279db12d0657a5737cf70074a1e71d3bdf73206625e3c89ce6",
        &[copy_of(
            "usr/lib/x86_64-linux-gnu/libedit.so.2.0.70",
            "c/lib/libedit.so.2",
        )],
    ),
    debian(
        "libbsd0",
        "0.11.7-2",
        "libbsd0_0.11.7-2_amd64.deb",
        "bb31cc8b40f962a85b2cec970f7f79cc704a1ae4bad24257a822055404b2c60b",
        &[copy_of(
            "usr/lib/x86_64-linux-gnu/libbsd.so.0.11.7",
            "c/lib/libbsd.so.0",
        )],
    ),
];

/// The guests, by the names of their modules: the source, and what is defined for it.
const GUESTS: [(&str, &str, Option<&str>); 3] = [
    ("libc", "libc.c", None),
    ("preview1", "preview1.c", None),
    ("preview1-extended", "preview1.c", Some("-DEXTENDED")),
];

/// Builds the guests of `tests/guests`, by the toolchain in a directory, into `guests/c` below the target directory.
pub(crate) fn build(toolchain: &Path) -> Result<()> {
    let sources = project::root().join("tests/guests");
    let into = project::target().join("guests/c");
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let step = Step::start("building the guests in C");
    for (name, source, defined) in GUESTS {
        let module = into.join(name).with_extension("wasm");
        let mut command = compiler(toolchain);
        command.args(defined).arg("-o").arg(module);
        step.run(command.arg(sources.join(source)))?;
    }
    step.done();
    Ok(())
}

fn compiler(toolchain: &Path) -> Command {
    let mut sysroot = OsString::from("--sysroot=");
    sysroot.push(toolchain);
    let mut command = Command::new(toolchain.join("bin/clang"));
    command
        .arg("--target=wasm32-wasi")
        .arg(sysroot)
        .args(["-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror"])
        .env("LD_LIBRARY_PATH", toolchain.join("lib"));
    command
}
