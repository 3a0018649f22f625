//! The demo's directory: it holds the state of both ends and is removed when the demo ends.
//!
//! A demo that was killed with SIGKILL leaves its directory behind; the next demo removes it. A running demo holds a
//! lock on a file in its directory, which the kernel releases when the process dies.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::private_directory;

const PREFIX: &str = "cellframe-vpn-demo-";
const LOCK: &str = "lock";

/// A private directory that is removed with this value.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
    removed: bool,
    _lock: File,
}

impl WorkDir {
    /// Creates a directory with mode 0700, and removes those that this user's dead demos left behind.
    pub(super) fn create() -> Result<Self, Failure> {
        remove_leftovers(&std::env::temp_dir());
        let path = private_directory::create(PREFIX)
            .map_err(|error| Failure::general(format!("cannot create the directory {error}")))?;
        let failed = |error| Failure::general(format!("cannot create the directory {}: {error}", path.display()));
        // The lock file gets its name only once it is locked: another demo must never see it unlocked.
        let new = path.join("lock.new");
        let lock = File::create_new(&new).map_err(failed)?;
        lock.try_lock().map_err(|error| failed(error.into()))?;
        fs::rename(&new, path.join(LOCK)).map_err(failed)?;
        Ok(Self { path, removed: false, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory and reports a failure. Dropping the value also removes it, silently.
    pub(super) fn remove(mut self) -> Result<(), Failure> {
        self.removed = true;
        fs::remove_dir_all(&self.path)
            .map_err(|error| Failure::general(format!("cannot remove {}: {error}", self.path.display())))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.removed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_leftover(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Accepts a directory (not a symbolic link) of this user whose lock is free.
fn is_leftover(path: &Path) -> bool {
    let ours = fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw());
    ours && File::open(path.join(LOCK)).is_ok_and(|lock| match lock.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_removed_and_the_living_stay() {
        let parent = std::env::temp_dir().join(format!("cellframe-vpn-workdir-test-{}", std::process::id()));
        let dead = parent.join(format!("{PREFIX}1"));
        let living = parent.join(format!("{PREFIX}2"));
        let unrelated = parent.join("other");
        let unlocked_yet = parent.join(format!("{PREFIX}3"));
        for directory in [&dead, &living, &unrelated, &unlocked_yet] {
            fs::create_dir_all(directory).expect("make a directory");
        }
        for directory in [&dead, &living, &unrelated] {
            File::create_new(directory.join(LOCK)).expect("make a lock file");
        }
        let link = parent.join(format!("{PREFIX}4"));
        std::os::unix::fs::symlink(&unrelated, &link).expect("make a link");
        let held = File::open(living.join(LOCK)).expect("open the lock");
        held.try_lock().expect("lock");

        remove_leftovers(&parent);
        let exists = [&dead, &living, &unrelated, &unlocked_yet].map(|directory| directory.exists());
        let linked = unrelated.join(LOCK).exists();
        fs::remove_dir_all(&parent).expect("remove the test's directory");
        assert_eq!(exists, [false, true, true, true]);
        assert!(linked, "what a link points to is not the demo's");
    }
}
