//! Compiles the C half of the seam and writes the C headers.
//!
//! It generates the headers from the embedded SDK's build, in OUT_DIR; `VPN_UPDATE_HEADERS=1` writes them into
//! `include/`, where they are committed. A build writes nothing else outside the build directory.
//!
//! With the feature `sdk` the environment variable `VPN_SDK_FLAGS` names a file with the C compiler's flags for the
//! SDK's own modules, one per line; CMakeLists.txt writes it.

use std::env;
use std::path::PathBuf;

#[path = "build/contract.rs"]
mod contract;
#[path = "build/glue.rs"]
mod glue;
#[path = "build/headers.rs"]
mod headers;
#[path = "build/seam.rs"]
mod seam;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let embedded = env::var_os("CARGO_FEATURE_EMBEDDED").is_some();
    for path in [
        "build.rs",
        "build",
        "cbindgen.toml",
        "src/abi",
        "src/sdk",
        "crates/embedded/src/ctypes",
        "crates/embedded/src/abi",
        "crates/embedded/src/prelude.h",
        "crates/embedded/src/trailer.h",
        "include",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=VPN_UPDATE_HEADERS");
    println!("cargo:rerun-if-env-changed=VPN_SDK_FLAGS");

    if embedded {
        let generated = out.join("include");
        headers::write(&root, &generated);
        println!("cargo:rustc-env=VPN_GENERATED_HEADERS={}", generated.display());
        if env::var_os("VPN_UPDATE_HEADERS").is_some() {
            headers::copy_tree(&generated, &root.join("include"));
        }
    }
    glue::compile(&root, &out, embedded);
}
