//! What documents refer to exists: files, sections, tests, benches.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::markdown::{Document, Link};
use crate::repository::{Repository, root, text};

/// Names in code that look like files of the repository, and are others'.
const OTHERS: [(&str, &str); 3] = [
    ("include/dap_chain_net_srv_vpn/", "a folder of the installed library"),
    ("vpn_glue.h", "cbindgen writes it into the build directory"),
    ("uthash.h", "a header of the system"),
];

/// Extensions of files that only this repository has, as far as documents speak of them.
const OURS_ALONE: [&str; 5] = ["md", "py", "rs", "sh", "toml"];
/// The same, if a folder stands in front.
const OURS_IN_FOLDERS: [&str; 8] = ["c", "cfg", "h", "md", "py", "rs", "sh", "svg"];

/// Links that lead nowhere.
pub(crate) fn broken_links(documents: &[Document], repository: &Repository) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        for link in document.links.iter().filter(|link| !is_elsewhere(&link.target)) {
            if let Some(fault) = broken_link(documents, repository, document, link) {
                faults.push(format!("{}: {fault}", document.at(link.line)));
            }
        }
    }
    faults
}

fn is_elsewhere(target: &str) -> bool {
    ["http:", "https:", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

fn broken_link(documents: &[Document], repository: &Repository, from: &Document, link: &Link) -> Option<String> {
    let (file, anchor) =
        link.target.split_once('#').map_or((&*link.target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { from.path.clone() } else { beside(&from.path, file) };
    if !repository.has(path.to_str()?) || !root().join(&path).exists() {
        return Some(format!("{} does not exist", link.target));
    }
    let headings = || documents.iter().filter(|document| document.path == path).flat_map(|document| &document.headings);
    if let Some(anchor) = anchor
        && !headings().any(|heading| heading.anchor == anchor)
    {
        return Some(format!("{}: no heading has the anchor {anchor}", link.target));
    }
    if let Some(section) = &link.section
        && !headings().any(|heading| heading.text == *section)
    {
        return Some(format!("{} has no section \"{section}\"", path.display()));
    }
    None
}

/// The path of `file` as a document names it.
fn beside(document: &Path, file: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in document.parent().unwrap_or(Path::new("")).join(file).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// Files and folders that documents name in code and that do not exist.
pub(crate) fn missing_files(documents: &[Document], repository: &Repository) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        for (line, span) in document.spans.iter().filter(|(_, span)| is_ours(span)) {
            if !repository.has(span) {
                faults.push(format!("{}: `{span}` does not exist", document.at(*line)));
            }
        }
    }
    faults
}

/// Whether code names a file or folder of this repository.
fn is_ours(span: &str) -> bool {
    let is_path = span.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-/*".contains(letter));
    // Builds write what is in target/.
    if !is_path || span.starts_with("target/") || span.starts_with('/') || span.starts_with('*') || span.ends_with("/*")
    {
        return false;
    }
    if OTHERS.iter().any(|(name, _)| *name == span) {
        return false;
    }
    let extension = Path::new(span).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match span.split_once('/') {
        None => OURS_ALONE.contains(&extension) && !span.starts_with('.'),
        Some((first, rest)) => {
            OURS_IN_FOLDERS.contains(&extension) || (!rest.is_empty() && root().join(first).is_dir())
        }
    }
}

/// Documents that comments and messages of the sources name and that do not exist.
pub(crate) fn missing_documents(repository: &Repository) -> Vec<String> {
    let mut faults = Vec::new();
    for path in repository.sources(&["c", "cmake", "h", "in", "py", "rs", "sh", "toml", "txt", "yml"]) {
        // These tests name documents that do not exist.
        if path.starts_with("tests/documents") {
            continue;
        }
        let text = text(path);
        for (at, _) in text.match_indices("docs/") {
            let name: String = text[at..]
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || "/-_.".contains(*letter))
                .collect();
            let name = name.trim_end_matches('.');
            // Only the root's folder is meant.
            let before = text[..at].chars().next_back();
            let is_root = before.is_none_or(|before| !(before.is_ascii_alphanumeric() || "/-_.$}".contains(before)));
            if is_root && name.ends_with(".md") && !repository.files.contains(Path::new(name)) {
                faults.push(format!("{}: {name} does not exist", path.display()));
            }
        }
    }
    faults
}

/// The names of tests: functions, modules, files, binaries, packages, and the tests of CMake.
pub(crate) fn names_of_tests(repository: &Repository) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in repository.sources(&["rs"]) {
        names.insert(path.to_str().unwrap().to_owned());
        names.extend(path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()));
        let text = text(path);
        for start in ["fn ", "mod "] {
            for (at, _) in text.match_indices(start) {
                let name = text[at + start.len()..].chars();
                names.insert(name.take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
            }
        }
    }
    for path in repository.sources(&["c", "py", "txt"]) {
        if path.starts_with("c-tests") {
            let text = text(path);
            names.extend(
                text.split(|letter: char| !(letter.is_alphanumeric() || "_.-".contains(letter))).map(str::to_owned),
            );
        }
    }
    names
}

/// Tests that the rows of a document's tables name in their second cell and that do not exist.
pub(crate) fn missing_tests(document: &Document, names: &BTreeSet<String>) -> Vec<String> {
    let (mut faults, mut found) = (Vec::new(), 0);
    for row in &document.rows {
        let spans = row.cells.get(1).map(|cell| cell.spans.as_slice()).unwrap_or_default();
        for word in spans.iter().flat_map(|span| span.split_whitespace()).filter(|word| !word.starts_with('-')) {
            found += 1;
            for part in word.split("::") {
                let exists = match part.strip_suffix('*') {
                    Some(start) => names.iter().any(|name| name.starts_with(start)),
                    None => names.contains(part),
                };
                if !exists {
                    faults.push(format!("{}: no test `{part}` of `{word}`", document.at(row.line)));
                }
            }
        }
    }
    if found == 0 {
        faults.push(format!("{}: no test is named", document.path.display()));
    }
    faults
}

/// Versions of Rust that documents ask for and that are not the manifest's.
pub(crate) fn other_rusts(documents: &[(PathBuf, String)], manifest: &str) -> Vec<String> {
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    let mut faults = Vec::new();
    for (path, text) in documents {
        for (at, _) in text.match_indices("Rust 1.") {
            let named: String = text[at + 5..].chars().take_while(|letter| "0123456789.".contains(*letter)).collect();
            if named.trim_end_matches('.') != version {
                faults.push(format!("{}: Rust {named}, the manifest says {version}", path.display()));
            }
        }
    }
    faults
}
