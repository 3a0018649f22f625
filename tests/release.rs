//! Tests `.ci/release` as far as it needs no build: what it refuses, the notes, and the source archive, which must have
//! every crate.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::program::{code, stderr, stdout};
use testkit::skip;

const MANIFEST: &str =
    "[package]\nname = \"small\"\nversion = \"1.2.3\"\nedition = \"2024\"\n[lib]\npath = \"small.rs\"\n";
const LOCK: &str = "version = 4\n\n[[package]]\nname = \"small\"\nversion = \"1.2.3\"\n";
const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-11-29\n\n### Added\n\n- A thing.\n\n\
    ### Fixed\n\n- Another.\n\n## [1.2.2] - 2026-01-02\n\n- An old thing.\n";
const NOTES: &str = "### Added\n\n- A thing.\n\n### Fixed\n\n- Another.\n";

/// A repository of git's in a directory of the test.
struct Repository(tempfile::TempDir);

impl Repository {
    /// Makes a repository of a small crate, with this project's `.ci/release`.
    fn small() -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.write("Cargo.toml", MANIFEST);
        repository.write("Cargo.lock", LOCK);
        repository.write("CHANGELOG.md", CHANGELOG);
        repository.write("small.rs", "//! Nothing.\n");
        repository.write(".gitignore", "/target\n");
        fs::create_dir(repository.path().join(".ci")).unwrap();
        fs::copy(root().join(".ci/release"), repository.path().join(".ci/release")).unwrap();
        repository.git(&["init", "--quiet"]);
        repository.commit();
        repository
    }

    /// Makes a repository of this project's files, as they are now; `None` where the project is no work tree of git's.
    fn of_this_project() -> Option<Repository> {
        let listing =
            Command::new("git").args(["ls-files", "-z", "-co", "--exclude-standard"]).current_dir(root()).output();
        let listing = listing.ok().filter(|listing| listing.status.success())?;
        let repository = Repository(tempfile::tempdir().unwrap());
        for name in stdout(&listing).split_terminator('\0') {
            let (from, to) = (root().join(name), repository.path().join(name));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            match fs::read_link(&from) {
                Ok(target) => symlink(target, to).unwrap(),
                // a file that was deleted and not committed yet
                Err(_) if !from.exists() => {}
                Err(_) => {
                    fs::copy(&from, to).unwrap();
                }
            }
        }
        repository.git(&["init", "--quiet"]);
        Some(repository)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "core.hooksPath=/dev/null"]);
        git.envs([("GIT_AUTHOR_DATE", "2026-11-29T12:00:00Z"), ("GIT_COMMITTER_DATE", "2026-11-29T12:00:00Z")]);
        let output = git.args(arguments).current_dir(self.path()).output().unwrap();
        assert_eq!(code(&output), 0, "git {arguments:?}: {}", stderr(&output));
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "A state"]);
    }

    fn release(&self, arguments: &[&str]) -> Output {
        Command::new(self.path().join(".ci/release")).args(arguments).current_dir("/").output().unwrap()
    }

    /// Asserts that a release of the notes is refused with a message.
    fn assert_refused(&self, message: &str) {
        let output = self.release(&["--only", "notes"]);
        assert_eq!(code(&output), 2, "expected {message:?}, got {}", stdout(&output));
        assert!(stderr(&output).contains(message), "expected {message:?}, got {}", stderr(&output));
        assert!(!self.path().join("target").exists(), "a refused release writes nothing");
    }

    /// Asserts that a release with another changelog is refused.
    fn assert_changelog_refused(&self, changelog: &str, message: &str) {
        assert_ne!(changelog, CHANGELOG);
        self.write("CHANGELOG.md", changelog);
        self.commit();
        self.assert_refused(message);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_is_no_release_is_refused() {
    let repository = Repository::small();
    let heading = "## [1.2.3] - 2026-11-29";
    repository.assert_changelog_refused(&CHANGELOG.replace("[1.2.3]", "[1.2.4]"), "has no section for 1.2.3");
    repository
        .assert_changelog_refused(&CHANGELOG.replace(heading, "## [1.2.3]"), "line 5: expected '## [1.2.3] - YYYY");
    let empty = format!("# Changelog\n\n{heading}\n\n## [1.2.2] - 2026-01-02\n\n- An old thing.\n");
    repository.assert_changelog_refused(&empty, "the section is empty");
    let late = CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- A late thing.\n");
    repository.assert_changelog_refused(&late, "[Unreleased] still has entries");

    repository.git(&["tag", "v1.2.3"]);
    repository.write("CHANGELOG.md", CHANGELOG);
    repository.commit();
    repository.assert_refused("the tag v1.2.3 names another commit");
    repository.git(&["tag", "--delete", "v1.2.3"]);

    repository.write("Cargo.toml", &MANIFEST.replace("1.2.3", "1.2"));
    repository.commit();
    repository.assert_refused("version '1.2' is not a semantic version");
    repository.write("Cargo.toml", MANIFEST);
    repository.commit();

    repository.write("forgotten.rs", "");
    repository.assert_refused("forgotten.rs");
    for (arguments, message) in
        [(["--only", "note"], "--only note: no such step"), (["--quick", ""], "--quick: no such option")]
    {
        let output = repository.release(&arguments);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn the_same_commit_gives_the_same_files() {
    let (first, second) = (Repository::small(), Repository::small());
    let sums = [&first, &second].map(|repository| {
        let output = repository.release(&["--only", "notes,source"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let made = repository.path().join("target/release-1.2.3");
        assert_eq!(fs::read_to_string(made.join("release-notes.md")).unwrap(), NOTES);
        fs::read_to_string(made.join("SHA256SUMS")).unwrap()
    });
    assert!(sums[0].contains("  cellframe-vpn-1.2.3.tar.xz\n"), "{}", sums[0]);
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn the_source_archive_has_every_crate() {
    let name = "the_source_archive_has_every_crate";
    // For other systems' crates, too, which a build here has not fetched.
    let fetched = Command::new(env!("CARGO")).args(["fetch", "--locked"]).current_dir(root()).output().unwrap();
    if code(&fetched) != 0 {
        return skip(name, &format!("cargo fetch needs the network: {}", stderr(&fetched)));
    }
    let Some(repository) = Repository::of_this_project() else {
        return skip(name, "this is no work tree of git's");
    };
    let version = env!("CARGO_PKG_VERSION");
    repository.write("CHANGELOG.md", &format!("## [{version}] - 2026-11-29\n\n- A thing.\n"));
    repository.commit();
    // With `cargo metadata` in the archive, and no crates but its own, the release itself looks for what is missing.
    let made = repository.path().join("target/made");
    let output = repository.release(&["--only", "source", "--fast", "--output", made.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let archive = made.join(format!("cellframe-vpn-{version}.tar.xz"));
    let sums =
        Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&made).output().unwrap();
    assert_eq!(code(&sums), 0, "{}", stderr(&sums));
    let top = PathBuf::from(format!("cellframe-vpn-{version}"));
    let unpacked = tempfile::tempdir().unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("-x").arg("-f").arg(&archive).arg("-C").arg(unpacked.path());
    for name in [".cargo", ".ci", "Cargo.lock", "CMakeLists.txt", "LICENSE", "include", "packaging"] {
        if name == ".cargo" || root().join(name).exists() {
            unpack.arg(top.join(name));
        }
    }
    let output = unpack.output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let config = fs::read_to_string(unpacked.path().join(&top).join(".cargo/config.toml")).unwrap();
    assert!(config.contains("directory = \"vendor\"\n") && !config.contains("://"), "{config}");
}
