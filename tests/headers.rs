//! Tests that the headers in `include/` are those that cbindgen generates from the sources.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn committed_headers_are_the_generated_ones() {
    let generated = headers(Path::new(env!("VPN_GENERATED_HEADERS")));
    let committed = headers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    let names = |headers: &BTreeMap<PathBuf, String>| headers.keys().cloned().collect::<Vec<_>>();
    assert!(generated.len() > 30, "only {:?}", names(&generated));
    assert_eq!(names(&committed), names(&generated), "include/ has other files than build.rs writes");
    for (name, text) in &generated {
        let differs = text.lines().zip(committed[name].lines()).find(|(new, old)| new != old);
        assert!(
            committed[name] == *text,
            "include/{} is out of date, first at {differs:?}: VPN_UPDATE_HEADERS=1 cargo build",
            name.display()
        );
    }
}

/// Returns every file below a directory, by its relative path.
fn headers(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}
