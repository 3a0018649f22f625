//! Tests the documents against the repository: what they refer to exists, and what they say of the library is so.
//!
//! Each check is a function that returns faults; `planted` gives each a document with a fault. The program's commands
//! and the names of keys are checked where their definitions are: src/bin/cellframe-vpn/documented.rs.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod abi;
mod commands;
mod figures;
mod guide;
mod keys;
mod markdown;
mod planted;
mod reading;
mod references;
mod repository;

use std::path::Path;

use commands::Targets;
use markdown::Document;
use repository::{Repository, text};

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn document(path: &str) -> Document {
    Document::parse(Path::new(path), &text(Path::new(path)))
}

#[test]
fn links_lead_to_files_and_sections() {
    let repository = Repository::read();
    none(&references::broken_links(&repository.documents(), &repository));
}

#[test]
fn files_that_documents_name_exist() {
    let repository = Repository::read();
    none(&references::missing_files(&repository.documents(), &repository));
}

#[test]
fn documents_that_sources_name_exist() {
    none(&references::missing_documents(&Repository::read()));
}

#[test]
fn documents_ask_for_the_rust_of_the_manifest() {
    let repository = Repository::read();
    let documents = repository.sources(&["md"]).filter(|path| !path.ends_with("CHANGELOG.md"));
    let documents: Vec<_> = documents.map(|path| (path.clone(), text(path))).collect();
    none(&references::other_rusts(&documents, &text(Path::new("Cargo.toml"))));
}

#[test]
fn tests_behind_promises_exist() {
    let repository = Repository::read();
    none(&references::missing_tests(&document("docs/reliability.md"), &references::names_of_tests(&repository)));
}

#[test]
fn commands_of_cargo_name_what_exists() {
    let repository = Repository::read();
    none(&commands::unknown_targets(&repository.documents(), &Targets::read(&repository)));
}

#[test]
fn figures_have_a_command_and_a_day() {
    let repository = Repository::read();
    let targets = Targets::read(&repository);
    let documents = repository.documents();
    none(&documents.iter().flat_map(figures::undated_speeds).collect::<Vec<_>>());
    none(&figures::undated_figures(&document("docs/performance.md")));
    none(&figures::benches_without_command(&document("docs/performance.md"), targets.benches()));
    none(&figures::undated_rows(&document("docs/reliability.md")));
    assert_eq!(figures::measured_in_blocks(&document("README.md").blocks), Vec::<usize>::new());
}

#[test]
fn the_abi_is_the_documented_one() {
    let (repository, abi) = (Repository::read(), document("docs/abi.md"));
    let headers: String =
        repository.sources(&["h"]).filter(|path| path.starts_with("include")).map(|p| text(p)).collect();
    none(&abi::function_faults(&abi, &abi::exports(&repository, "src/abi"), ""));
    none(&abi::code_faults(&abi, &text(Path::new("src/abi/codes.rs"))));
    none(&abi::constant_faults(&abi, &headers));
    none(&abi::layout_faults(&abi, &text(Path::new("src/sdk/visible.rs"))));
    none(&abi::header_faults(&abi, &repository));
}

#[test]
fn keys_have_the_bounds_and_defaults_of_the_code() {
    none(&keys::faults(&document("docs/config.md"), &keys::reads(&Repository::read())));
}

#[test]
fn the_embedded_sdk_is_the_documented_one() {
    let repository = Repository::read();
    let header = text(Path::new("include/embedded/dap_embedded_sdk.h"));
    let exports = abi::exports(&repository, "crates/embedded/src/abi");
    none(&abi::function_faults(&document("docs/embedded-sdk.md"), &exports, &header));
}
