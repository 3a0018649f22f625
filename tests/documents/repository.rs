//! The repository's files, without what builds write.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::markdown::Document;

/// Folders that builds write, and that of the version control.
const NOT_SOURCES: [&str; 3] = ["target", "c-tests/build", ".git"];
/// The specification, which stays as its authors wrote it.
const ANOTHERS: &str = "c-tests/spec";

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files and folders of the repository, by their paths below its root.
pub(crate) struct Repository {
    pub(crate) files: BTreeSet<PathBuf>,
    /// Every end of a path that begins with a file or folder, with and without the folders `src` in it.
    ends: BTreeSet<String>,
}

impl Repository {
    pub(crate) fn read() -> Repository {
        let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(root().join(&folder)).unwrap() {
                let path = folder.join(entry.unwrap().file_name());
                if NOT_SOURCES.iter().any(|other| path == Path::new(other)) {
                    continue;
                }
                if root().join(&path).is_dir() {
                    folders.insert(path.clone());
                    waiting.push(path);
                } else {
                    files.insert(path);
                }
            }
        }
        let ends = files.iter().chain(&folders).flat_map(|path| ends(path)).collect();
        Repository { files, ends }
    }

    /// Returns the documents.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let documents = self.sources(&["md"]).filter(|path| !path.starts_with(ANOTHERS));
        let documents: Vec<Document> = documents.map(|path| Document::parse(path, &text(path))).collect();
        assert!(documents.len() > 12, "{} documents", documents.len());
        documents
    }

    /// Whether a path of a file or folder ends so; `*` stands for any part of a name.
    pub(crate) fn has(&self, end: &str) -> bool {
        let end = end.trim_end_matches('/').trim_start_matches("./");
        if let Some((before, after)) = end.split_once('*') {
            return self.ends.iter().any(|known| {
                let between = known.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                between.is_some_and(|between| !between.contains('/'))
            });
        }
        self.ends.contains(end)
    }

    /// The files with one of these extensions.
    pub(crate) fn sources<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a PathBuf> {
        self.files.iter().filter(move |path| {
            path.extension().is_some_and(|extension| extensions.contains(&extension.to_str().unwrap()))
        })
    }
}

/// Returns the text of a file of the repository.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ends(path: &Path) -> Vec<String> {
    let whole: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    let short: Vec<&str> = whole.iter().copied().filter(|part| *part != "src").collect();
    [whole, short].iter().flat_map(|parts| (0..parts.len()).map(|from| parts[from..].join("/"))).collect()
}
