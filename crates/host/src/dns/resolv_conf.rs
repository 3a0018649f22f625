//! resolv.conf(5), replaced while a tunnel is up.
//!
//! The file before stays beside it, as itself: the same inode, or the same symbolic link. The first line of ours names the
//! process whose tunnel it serves. These two are the record of what has to be undone: a process that is killed, at any
//! step, leaves what [`Place::undo`] of another one understands, also after the machine was started again.
//!
//! Where the file is a mount of its own, as in containers, nothing can take its place: its text is copied and replaced in
//! place. `steps` has both ways. The directory may be that of other mounts of the file, each in a network namespace of
//! its own (`ip netns exec`), so the copy's name has the number of the file that is mounted.

mod steps;
#[cfg(test)]
mod tests;
mod text;

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::owner::Owner;
use steps::{Found, Kind};
pub use text::Mark;

/// The file's name.
pub(crate) const FILE: &str = "resolv.conf";
/// The name of the file before; of a mount's copy its beginning.
const BACKUP: &str = "resolv.conf.cellframe-vpn";
/// The name of a file that is being written.
const NEW: &str = "resolv.conf.cellframe-vpn.new";
/// How long a change waits for that of another process. Any user may hold the lock, so it is not waited for longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why the name servers cannot be set, or put back.
#[derive(Debug, thiserror::Error)]
pub enum ResolvConfError {
    /// Another process has set its own.
    #[error(
        "{} names the name servers of the tunnel of process {}, which runs; expected one tunnel at a time: stop that one",
        .file.display(), .owner.pid
    )]
    InUse {
        /// The file.
        file: PathBuf,
        /// The process.
        owner: Owner,
    },
    /// It is that of the machine, whose other programs use another network.
    #[error(
        "{} is also that of programs in other networks of this machine; expected one of this network namespace alone, such \
         as /etc/netns/NAME/resolv.conf for `ip netns exec NAME`", .0.display()
    )]
    Shared(PathBuf),
    /// It is neither a file nor a symbolic link.
    #[error("{} is neither a file nor a symbolic link; expected one of these: set the name servers by hand, with dns=off", .0.display())]
    NotAFile(PathBuf),
    /// The directory is read-only.
    #[error(
        "{} is read-only, so that {FILE} in it cannot be replaced; expected one that this process may write to: make it \
         writable, or set the name servers by hand, with dns=off", .0.display()
    )]
    ReadOnly(PathBuf),
    /// A step failed.
    #[error("cannot {what}: {source}")]
    Step {
        /// The step.
        what: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// What [`Place::undo`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// There was nothing to undo.
    Nothing,
    /// The file before is back.
    PutBack,
    /// There was no file before, and there is none now.
    Removed,
    /// Something else has written the file meanwhile: it stays, and the older one was removed.
    Foreign,
    /// What a start had prepared was removed.
    Prepared,
    /// They belong to a process that runs, and stay.
    Running(Owner),
    /// The file before is gone. Ours stays: without it the host would have no name servers at all.
    Lost,
}

/// A directory with its resolv.conf.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
    /// Whether the file counts as a mount of its own, whatever the kernel says.
    #[cfg(test)]
    is_mount: bool,
}

impl Place {
    /// The host's: /etc.
    pub fn of_host() -> Place {
        Place::at(Path::new("/etc"))
    }

    /// That of another directory.
    pub fn at(directory: &Path) -> Place {
        Place {
            directory: directory.to_owned(),
            #[cfg(test)]
            is_mount: false,
        }
    }

    /// The file's path.
    pub fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Makes `servers` the host's name servers, for `owner`; undoes first what a killed process has left. Of the file
    /// before, or of one that something else has written since, it keeps the options.
    ///
    /// # Errors
    /// [`ResolvConfError`]; the file is then as it was.
    pub fn set(&self, servers: &[Ipv4Addr], owner: &Owner) -> Result<(), ResolvConfError> {
        let _lock = self.lock();
        let mut found = self.found()?;
        if let Some(mark) = &found.mark
            && mark.owner != *owner
            && mark.owner.is_running()
        {
            return Err(ResolvConfError::InUse { file: self.file(), owner: mark.owner.clone() });
        }
        let is_ours = found.mark.as_ref().is_some_and(|mark| mark.owner == *owner);
        if !is_ours {
            steps::perform(&self.directory, &steps::to_undo(&found)).map_err(|error| self.failed(error))?;
            found = self.found()?;
        }
        if found.kind == Kind::Other {
            return Err(ResolvConfError::NotAFile(self.file()));
        }
        let result = steps::perform(&self.directory, &steps::to_set(&found, servers, owner));
        if result.is_err()
            && !is_ours
            && let Ok(found) = self.found()
        {
            // What was prepared; a failure here has the same cause.
            let _ = steps::perform(&self.directory, &steps::to_undo(&found));
        }
        result.map_err(|error| self.failed(error))
    }

    /// Puts the file before back, if `owner` has set ours or the process that has is gone.
    ///
    /// # Errors
    /// [`ResolvConfError::Step`] or [`ResolvConfError::ReadOnly`]; it may be tried again.
    pub fn undo(&self, owner: &Owner) -> Result<Undone, ResolvConfError> {
        // Nobody waits for the lock where there is nothing to do.
        if self.found()?.outcome() == Undone::Nothing {
            return Ok(Undone::Nothing);
        }
        let _lock = self.lock();
        let found = self.found()?;
        if let Some(mark) = &found.mark
            && mark.owner != *owner
            && mark.owner.is_running()
        {
            return Ok(Undone::Running(mark.owner.clone()));
        }
        let steps = steps::to_undo(&found);
        steps::perform(&self.directory, &steps).map_err(|error| self.failed(error))?;
        Ok(found.outcome())
    }

    /// Returns what [`Place::undo`] would come to for a process that has set nothing. Changes nothing.
    ///
    /// # Errors
    /// [`ResolvConfError::Step`] if the files cannot be read.
    pub fn left(&self) -> Result<Undone, ResolvConfError> {
        let found = self.found()?;
        match &found.mark {
            Some(mark) if mark.owner.is_running() => Ok(Undone::Running(mark.owner.clone())),
            _ => Ok(found.outcome()),
        }
    }

    /// Returns whether the file is one that `owner` has set. Reads it anew only if it has changed since `known`.
    pub fn is_set_by(&self, owner: &Owner, known: &mut Known) -> bool {
        let now = Known::of(&self.file());
        if now != *known || now.0.is_none() {
            let mark = self.found().ok().and_then(|found| found.mark);
            if mark.is_none_or(|mark| mark.owner != *owner) {
                return false;
            }
            *known = now;
        }
        true
    }

    /// Returns what the C library would read without us: the text of the file, or of the one before ours.
    pub fn text_without_ours(&self) -> io::Result<Vec<u8>> {
        let text = fs::read(self.file())?;
        if Mark::of(&text).is_none() {
            return Ok(text);
        }
        fs::read(self.directory.join(self.backup().0)).or(Ok(text))
    }

    /// Returns whether the C library asks systemd-resolved, by the address on loopback that only this has.
    pub(super) fn asks_resolved(&self) -> bool {
        let text = self.text_without_ours().unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let words = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let mut servers = words.filter(|words| words.first() == Some(&"nameserver")).peekable();
        servers.peek().is_some()
            && servers.all(|words| words.get(1).is_some_and(|server| ["127.0.0.53", "127.0.0.54"].contains(server)))
    }

    fn found(&self) -> Result<Found, ResolvConfError> {
        let (backup, is_mount) = self.backup();
        Found::read(&self.directory, backup, is_mount).map_err(|error| self.failed(error))
    }

    /// Returns the name of the file before, and whether the file is a mount of its own.
    fn backup(&self) -> (String, bool) {
        let file = self.file();
        let is_mount = steps::is_mount(&file);
        #[cfg(test)]
        let is_mount = is_mount || self.is_mount;
        match fs::symlink_metadata(&file) {
            Ok(found) if is_mount && found.is_file() => (format!("{BACKUP}-{}", found.ino()), true),
            _ => (BACKUP.to_owned(), false),
        }
    }

    /// Keeps other processes of this program from changing the same files.
    fn lock(&self) -> Option<File> {
        let directory = File::open(&self.directory).ok()?;
        let until = Instant::now() + LOCK_PATIENCE;
        while flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= until {
                log::warn!("another process holds the lock of {}; going on without it", self.directory.display());
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(directory)
    }

    fn failed(&self, (what, source): (String, io::Error)) -> ResolvConfError {
        if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            return ResolvConfError::ReadOnly(self.directory.clone());
        }
        ResolvConfError::Step { what, source }
    }
}

/// What the file was when it was looked at last, so that one that has not changed need not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(Option<(u64, u64, i64, i64, u64)>);

impl Known {
    fn of(file: &Path) -> Known {
        let facts = |file: fs::Metadata| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size());
        Known(fs::symlink_metadata(file).ok().map(facts))
    }
}
