//! Tests the architecture against the sources: no two modules of a crate use each other, except parent and child, and
//! each layer uses what its row in docs/architecture.md allows.
#![allow(clippy::unwrap_used)]

mod check;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};

use check::{circles, layer_faults};
use modules::Crate;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The crates, by their headings in docs/architecture.md, and the root file of each.
const CRATES: [(&str, &str); 5] = [
    ("crates/vpn-core", "crates/vpn-core/src/lib.rs"),
    ("crates/http", "crates/http/src/lib.rs"),
    ("crates/host", "crates/host/src/lib.rs"),
    ("crates/embedded", "crates/embedded/src/lib.rs"),
    ("src", "src/lib.rs"),
];
/// Crates that are not shipped, and the program: their modules have no rows.
const WITHOUT_ROWS: [&str; 5] = [
    "crates/testkit/src/lib.rs",
    "src/bin/cellframe-vpn/main.rs",
    "benches/tunnel/main.rs",
    "benches/path/main.rs",
    "benches/sessions/main.rs",
];

#[test]
fn no_two_modules_use_each_other() {
    let files = CRATES.iter().map(|(_, file)| file).chain(&WITHOUT_ROWS);
    let found: Vec<String> = files
        .flat_map(|file| {
            circles(&Crate::read(&repository().join(file))).into_iter().map(move |circle| format!("{file}: {circle}"))
        })
        .collect();
    assert!(found.is_empty(), "modules that use each other:\n{}", found.join("\n"));
}

#[test]
fn each_layer_uses_what_its_row_allows() {
    let table = fs::read_to_string(repository().join("docs/architecture.md")).unwrap();
    let faults: Vec<String> = CRATES
        .iter()
        .flat_map(|(name, file)| {
            layer_faults(&Crate::read(&repository().join(file)), &table, name)
                .into_iter()
                .map(move |fault| format!("{name}: {fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "docs/architecture.md and the sources differ:\n{}", faults.join("\n"));
}

/// A thread that takes signals would take the host program's.
#[test]
fn the_library_starts_threads_in_one_place() {
    const ONLY: &str = "crates/host/src/threads.rs";
    let mut folders: Vec<PathBuf> =
        ["src", "crates/embedded/src", "crates/host/src"].iter().map(|folder| repository().join(folder)).collect();
    // The program's own threads, and those of the demo and the tests.
    let others = ["src/bin", "crates/host/src/lab"].map(|folder| repository().join(folder));
    let (mut faults, mut files) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                if !others.contains(&entry) && !entry.ends_with("tests") {
                    folders.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files += 1;
                let text = fs::read_to_string(&entry).unwrap();
                let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
                let starts =
                    ["thread::spawn(", "thread::scope(", "thread::Builder"].iter().any(|start| shipped.contains(start));
                if starts && !entry.ends_with(ONLY) {
                    faults.push(entry);
                }
            }
        }
    }
    assert!(files > 100, "{files} files");
    assert!(faults.is_empty(), "threads without {ONLY}: {faults:?}");
}

/// Writes a crate with these files into its own folder.
fn crate_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Crate) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let krate = Crate::read(Path::new(&folder.path().join("lib.rs")));
    (folder, krate)
}

#[test]
fn a_circle_is_found_in_every_kind_of_reference() {
    for back in ["use crate::a::A;", "fn f() { super::a::f() }", "fn f() { log::info!(\"{}\", crate::a::NUMBER) }"] {
        let (_folder, krate) = crate_of(&[
            ("lib.rs", "mod a;\nmod b;"),
            ("a.rs", "use crate::b::B;"),
            ("b/mod.rs", "mod c;"),
            ("b/c.rs", &back.replace("super::a", "super::super::a")),
        ]);
        assert_eq!(circles(&krate).len(), 1, "{back}");
    }
}

#[test]
fn parent_and_child_and_tests_form_no_circle() {
    let (_folder, krate) = crate_of(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a/mod.rs", "mod c;\npub use c::C;\nuse crate::b::B;"),
        ("a/c.rs", "use super::D;\nuse crate::b::B;"),
        ("b.rs", "#[cfg(test)]\nmod tests {\n use crate::a::C;\n}"),
    ]);
    assert_eq!(circles(&krate), Vec::<String>::new());
}

#[test]
fn a_layer_that_uses_more_or_less_than_its_row_says_is_named() {
    let (_folder, krate) = crate_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;"),
        ("a.rs", "use crate::b::B;\nuse host::tun;"),
        ("b.rs", ""),
        ("c.rs", ""),
    ]);
    let table = |a: &str| {
        format!("### `lib`\n\n| module | what | may use |\n|---|---|---|\n| `a` | | {a} |\n| `b`, `c` | | nothing |\n")
    };
    assert_eq!(layer_faults(&krate, &table("`b`, `host`"), "lib"), Vec::<String>::new());
    assert_eq!(layer_faults(&krate, &table("`b`"), "lib"), ["`a` uses `host`, which its row does not allow"]);
    assert_eq!(layer_faults(&krate, &table("`b`, `c`, `host`"), "lib"), ["`a` does not use `c`, which its row allows"]);
    assert_eq!(
        layer_faults(&krate, "### `lib`\n| `a` | | `b`, `host` |\n| `b` | | nothing |\n", "lib"),
        ["`c` has no row"]
    );
}
