//! Tests that the seam to the SDK is written once: the C half is compiled against a header that is generated from
//! `src/sdk/raw.rs`.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[path = "../build/contract.rs"]
mod contract;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn raw() -> String {
    fs::read_to_string(root().join("src/sdk/raw.rs")).unwrap()
}

/// Returns the header that the C half of this build was compiled against.
fn header() -> String {
    fs::read_to_string(env!("VPN_GLUE_HEADER")).unwrap()
}

/// Returns the header with one piece of its text replaced.
fn changed(from: &str, to: &str) -> String {
    let header = header();
    assert_eq!(header.matches(from).count(), 1, "the header must have {from:?} once");
    header.replace(from, to)
}

/// Returns the C compiler's messages for a C file of the seam with this header; empty without errors.
fn complaints(file: &str, header: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vpn_glue.h"), header).unwrap();
    let mut command = Command::new(env::var("CC").unwrap_or_else(|_| String::from("cc")));
    command.args(["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes"]);
    command.env("LC_ALL", "C").arg("-I").arg(folder.path());
    command.arg("-I").arg(root().join("include")).arg("-I").arg(root().join("include/embedded"));
    let output = command.arg(root().join("src/sdk/glue").join(file)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), text.is_empty(), "{text}");
    text
}

/// Returns the part of a text between two others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).unwrap().1.split_once(end).unwrap().0
}

#[test]
fn the_table_of_callbacks_has_the_order_of_raw_rs() {
    let (raw, header) = (raw(), header());
    let in_rust = between(&raw, "struct Callbacks {", "\n}").lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub(super) ")?.split_once(':')?;
        Some(name)
    });
    let table = header.split_once("} vpn_glue_callbacks_t;").unwrap().0.rsplit_once("typedef struct").unwrap().1;
    let in_c = table.lines().filter_map(|line| match line.split_once("(*") {
        Some((_, rest)) => Some(rest.split_once(')')?.0),
        None => line.trim().strip_prefix("size_t ")?.strip_suffix(';'),
    });
    let in_rust: Vec<_> = in_rust.collect();
    assert_eq!(in_rust.len(), 24, "{in_rust:?}");
    assert_eq!(in_rust, in_c.collect::<Vec<_>>());
}

#[test]
fn the_header_has_every_item_of_raw_rs() {
    contract::check(&raw(), &header()).unwrap();
    let functions = contract::items(&raw()).iter().filter(|(name, _)| name.starts_with("vpn_glue_")).count();
    assert!(functions > 60, "only {functions} functions are found in raw.rs");
    assert_eq!(functions, raw().matches("fn vpn_glue_").count());
}

#[test]
fn a_declaration_that_cbindgen_drops_stops_the_build() {
    for declaration in [
        "    pub(super) safe fn vpn_glue_dropped() -> c_int;",
        "    pub(super) fn vpn_glue_dropped();",
        "const DROPPED: u32 = 1;",
        "pub(super) struct Dropped {",
    ] {
        let complaint = contract::check(declaration, &header()).unwrap_err();
        assert!(complaint.to_lowercase().contains("dropped; expected"), "{complaint}");
    }
}

#[test]
fn the_c_half_agrees_with_the_header_it_was_compiled_against() {
    for file in ["channel.c", "client.c", "host.c", "net.c", "payment_embedded.c", "service.c", "tun.c"] {
        assert_eq!(complaints(file, &header()), "", "{file}");
    }
}

#[test]
fn a_callback_of_another_type_does_not_compile() {
    let header = changed(
        "(*service_accepted)(void *vpn_internal, uint32_t usage_id)",
        "(*service_accepted)(uint32_t usage_id, void *vpn_internal)",
    );
    assert!(complaints("service.c", &header).contains("service_accepted"));
}

#[test]
fn a_struct_without_a_field_does_not_compile() {
    let header = changed("    bool is_allowed;\n", "");
    assert!(complaints("service.c", &header).contains("is_allowed"));
}

#[test]
fn a_function_of_another_type_does_not_compile() {
    let header = changed("uint64_t vpn_glue_net_id(", "uint32_t vpn_glue_net_id(");
    assert!(complaints("net.c", &header).contains("conflicting types for 'vpn_glue_net_id'"));
}

#[test]
fn a_function_that_raw_rs_does_not_declare_does_not_compile() {
    let header = changed("uint64_t vpn_glue_net_id(", "uint64_t vpn_glue_net_number(");
    assert!(complaints("net.c", &header).contains("no previous prototype for 'vpn_glue_net_id'"));
}
