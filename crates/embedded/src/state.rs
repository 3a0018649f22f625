//! The state directory: identity, wallets, store, ledgers, CLI socket.
//!
//! It is opened once, and everything in it by its descriptor, so that nobody exchanges a part of the path meanwhile. A
//! link is not followed. Directory and files must belong to this process's user or to root: whoever else owns one may
//! read the private key, or put another in its place. A file is there whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::descriptors::above_stdio;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, linkat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, getegid, geteuid, test_kill_process};

use crate::config::Config;

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Why the state directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made or opened.
    #[error("the state directory {} ([general] state_dir): {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be opened or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another user owns it.
    #[error(
        "{} belongs to user {owner}, who could exchange it: expected user {} or root; give it to that user, or use \
         another [general] state_dir", path.display(), geteuid().as_raw()
    )]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Every user may write to the directory.
    #[error("every user may write to the state directory {} (mode {mode:04o}): expected 0700", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A group of other users may write to the directory.
    #[error(
        "group {group} may write to the state directory {} (mode {mode:04o}): expected 0700, or a group of this process",
        path.display()
    )]
    Group {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its group.
        group: u32,
    },
    /// Others may rename what is in the directory above, and so exchange the state directory.
    #[error(
        "the state directory's parent {} belongs to user {owner}, mode {mode:04o}, so that another user could exchange \
         the state directory: expected user {} or root, and no writing for others; change that, or use another place \
         ([general] state_dir, --state-dir)", path.display(), geteuid().as_raw()
    )]
    Parent {
        /// The directory above.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Other users may read or write a private key.
    #[error(
        "other users may read or write the private key {} (mode {mode:04o}): expected 0600; who has read it can spend \
         what it owns", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is a link or another kind of file.
    #[error("{} is {found}: expected {expected}; links are not followed", path.display())]
    Kind {
        /// The directory or file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl StateError {
    /// Whether the reason is a file that is there already.
    pub(crate) fn is_exists(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// An open directory for private files.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    descriptor: OwnedFd,
}

/// The state directory in use.
static OPEN: Mutex<Option<Arc<StateDir>>> = Mutex::new(None);

/// The configuration's state directory, made if it is missing. It stays open until [`close`], or until another one is
/// asked for.
pub(crate) fn open(config: &Config) -> Result<Arc<StateDir>, StateError> {
    let path = config.state_path();
    let mut open = OPEN.lock();
    if let Some(directory) = open.as_ref().filter(|open| open.path == path && open.still_exists()) {
        return Ok(Arc::clone(directory));
    }
    *open = None;
    let directory = Arc::new(StateDir::open(&path)?);
    Ok(Arc::clone(open.insert(directory)))
}

/// Looks whether a process of this user could use the state directory at `path`, as `open` would. Makes and changes
/// nothing. False if it is missing.
///
/// # Errors
/// Why it would be refused.
pub fn inspect(path: &Path, user: u32) -> Result<bool, StateError> {
    let path: &Path = &path.components().collect::<PathBuf>();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StateError::Directory { path: path.to_owned(), source }),
        Ok(_) => {
            check_parent(path, user)?;
            StateDir::of_user(path, OFlags::NOFOLLOW, user)?.refuse_open().map(|()| true)
        }
    }
}

/// Closes the state directory; the next [`open`] opens it again.
pub(crate) fn close() {
    *OPEN.lock() = None;
}

impl StateDir {
    /// Opens a directory, and makes it with mode 0700 if it is missing.
    fn open(path: &Path) -> Result<Self, StateError> {
        // With a slash or a dot behind it, the system follows a link in spite of NOFOLLOW.
        let path: &Path = &path.components().collect::<PathBuf>();
        let failed = |source: io::Error| StateError::Directory { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
                }
                check_parent(path, this_user())?;
                match DirBuilder::new().mode(0o700).create(path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                    // Another process has made it just now, or this one.
                    _ => {}
                }
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => check_parent(path, this_user())?,
        }
        Self::of_existing(path, OFlags::NOFOLLOW).and_then(|directory| directory.refuse_open().map(|()| directory))
    }

    /// Opens the existing directory of a file that the configuration names, such as `/run`.
    pub(crate) fn of_file(path: &Path) -> Result<Self, StateError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |source| StateError::File { path: parent.to_owned(), source };
        let directory = rustix::fs::open(parent, DIRECTORY, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let descriptor = above_stdio(directory).map_err(|errno| failed(errno.into()))?;
        Ok(Self { path: parent.to_owned(), descriptor })
    }

    fn of_existing(path: &Path, more: OFlags) -> Result<Self, StateError> {
        Self::of_user(path, more, this_user())
    }

    fn of_user(path: &Path, more: OFlags, user: u32) -> Result<Self, StateError> {
        let failed = |errno: Errno| StateError::Directory { path: path.to_owned(), source: errno.into() };
        let directory = match rustix::fs::open(path, DIRECTORY | more, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(StateError::Kind {
                    path: path.to_owned(),
                    found: "a link, or no directory",
                    expected: "a directory",
                });
            }
            opened => opened.map_err(failed)?,
        };
        let descriptor = above_stdio(directory).map_err(failed)?;
        check_owner(path, &fstat(&descriptor).map_err(failed)?, user)?;
        Ok(Self { path: path.to_owned(), descriptor })
    }

    fn refuse_open(&self) -> Result<(), StateError> {
        let stat = fstat(&self.descriptor).map_err(|errno| self.file_error(".", errno))?;
        let (path, mode) = (|| self.path.clone(), stat.st_mode & 0o7777);
        if mode & 0o002 != 0 {
            Err(StateError::Open { path: path(), mode })
        } else if others_group_writes(&stat) {
            Err(StateError::Group { path: path(), mode, group: stat.st_gid })
        } else {
            Ok(())
        }
    }

    /// Opens a directory in this one, which is made, mode 0700, if it is missing and to be made. `None` if there is none.
    pub(crate) fn subdirectory(&self, name: &str, is_made: bool) -> Result<Option<StateDir>, StateError> {
        let path = self.path_of(name);
        let failed = |errno: Errno| StateError::Directory { path: path.clone(), source: errno.into() };
        if is_made {
            match mkdirat(&self.descriptor, name, Mode::RWXU) {
                Ok(()) => rustix::fs::fsync(&self.descriptor).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let descriptor = match openat(&self.descriptor, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(StateError::Kind { path, found: "a link, or no directory", expected: "a directory" });
            }
            opened => opened.and_then(above_stdio::<OwnedFd>).map_err(failed)?,
        };
        check_owner(&path, &fstat(&descriptor).map_err(failed)?, this_user())?;
        let directory = StateDir { path, descriptor };
        directory.refuse_open()?;
        Ok(Some(directory))
    }

    /// The names of what is in the directory, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, StateError> {
        let failed = |errno: Errno| StateError::Directory { path: self.path.clone(), source: errno.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.descriptor).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Opens a private key to read it; None if there is none. It is refused if other users have access.
    pub(crate) fn open_secret(&self, name: &str) -> Result<Option<File>, StateError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.descriptor, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => match self.admit_plain(name, opened)? {
                (file, mode) if mode & 0o077 == 0 => Ok(Some(file)),
                (_, mode) => Err(StateError::Exposed { path: self.path_of(name), mode }),
            },
        }
    }

    fn still_exists(&self) -> bool {
        fstat(&self.descriptor).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// The directory's mode, 0 if the system does not tell it.
    pub(crate) fn mode(&self) -> u32 {
        fstat(&self.descriptor).map_or(0, |stat| stat.st_mode & 0o7777)
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the directory, for messages.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn file_error(&self, name: &str, source: impl Into<io::Error>) -> StateError {
        StateError::File { path: self.path_of(name), source: source.into() }
    }

    /// Opens a file to read and write it; None if there is none. Closes it to other users, and returns the mode that it
    /// had if they had access.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<(File, Option<u32>)>, StateError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.descriptor, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => self.admit(name, opened).map(Some),
        }
    }

    /// Opens a file that only carries a lock, and makes it if it is missing.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File, StateError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.admit(name, openat(&self.descriptor, name, flags, PRIVATE)).map(|(file, _)| file)
    }

    /// Admits a file that is a plain one of the right owner, and closes it to other users. Returns the mode that it had if
    /// they had access.
    fn admit(&self, name: &str, opened: Result<OwnedFd, Errno>) -> Result<(File, Option<u32>), StateError> {
        let (file, mode) = self.admit_plain(name, opened)?;
        if mode & 0o077 == 0 {
            return Ok((file, None));
        }
        if let Err(errno) = fchmod(&file, PRIVATE) {
            log::warn!(
                "{}: mode {mode:04o}, expected 0600, which cannot be set: {errno}",
                self.path_of(name).display()
            );
        }
        Ok((file, Some(mode)))
    }

    /// Admits a file that is a plain one of the right owner; returns its mode, too.
    fn admit_plain(&self, name: &str, opened: Result<OwnedFd, Errno>) -> Result<(File, u32), StateError> {
        let kind = |found| StateError::Kind { path: self.path_of(name), found, expected: "a file" };
        let file = match opened {
            Err(Errno::LOOP) => return Err(kind("a link")),
            Err(Errno::ISDIR) => return Err(kind("a directory")),
            opened => opened.and_then(above_stdio::<OwnedFd>).map_err(|errno| self.file_error(name, errno))?,
        };
        let stat = fstat(&file).map_err(|errno| self.file_error(name, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(kind("another kind of file"));
        }
        check_owner(&self.path_of(name), &stat, this_user())?;
        Ok((file.into(), stat.st_mode & 0o7777))
    }

    /// Makes a file, mode 0600, with what `fill` writes: whole, on the disk, or not at all. A file that is there stays,
    /// and is an error.
    pub(crate) fn create<E: From<StateError>>(
        &self,
        name: &str,
        fill: impl FnOnce(File) -> Result<(), E>,
    ) -> Result<(), E> {
        self.remove_old_drafts(name);
        let draft = format!("{name}.{}", std::process::id());
        let _ = unlinkat(&self.descriptor, &draft, AtFlags::empty());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.descriptor, &draft, flags, PRIVATE)
            .and_then(above_stdio::<File>)
            .map_err(|errno| self.file_error(&draft, errno))?;
        // The umask may have taken more away.
        let result = fchmod(&file, PRIVATE)
            .map_err(|errno| E::from(self.file_error(&draft, errno)))
            .and_then(|()| fill(file))
            .and_then(|()| self.publish(&draft, name).map_err(E::from));
        let _ = unlinkat(&self.descriptor, &draft, AtFlags::empty());
        result
    }

    /// Gives a finished draft its name.
    fn publish(&self, draft: &str, name: &str) -> Result<(), StateError> {
        let linked = linkat(&self.descriptor, draft, &self.descriptor, name, AtFlags::empty());
        linked.and_then(|()| rustix::fs::fsync(&self.descriptor)).map_err(|errno| self.file_error(name, errno))
    }

    /// Makes a file with this text.
    pub(crate) fn create_text(&self, name: &str, text: &str) -> Result<(), StateError> {
        self.create(name, |mut file| {
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| self.file_error(name, error))
        })
    }

    /// Removes the drafts that killed processes have left: they may be what fills the disk.
    fn remove_old_drafts(&self, name: &str) {
        let Ok(entries) = Dir::read_from(&self.descriptor) else { return };
        for entry in entries.flatten() {
            let Ok(found) = entry.file_name().to_str() else { continue };
            let process = found.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
            let process = process.and_then(Pid::from_raw);
            if process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH)) {
                let _ = unlinkat(&self.descriptor, found, AtFlags::empty());
            }
        }
    }

    /// Removes a file; one that is gone already is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.file_error(name, errno)),
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn this_user() -> u32 {
    geteuid().as_raw()
}

fn check_owner(path: &Path, stat: &Stat, user: u32) -> Result<(), StateError> {
    let ours = stat.st_uid == 0 || stat.st_uid == user;
    if ours { Ok(()) } else { Err(StateError::Owner { path: path.to_owned(), owner: stat.st_uid }) }
}

/// Returns whether a group may write that is neither root's nor this process's.
fn others_group_writes(stat: &Stat) -> bool {
    stat.st_mode & 0o020 != 0 && stat.st_gid != 0 && stat.st_gid != getegid().as_raw()
}

/// The user as whom a user namespace shows all those that it does not map, such as the owner of `/tmp`.
const UNMAPPED: u32 = 65534;

/// Refuses a directory whose parent lets another user rename it. A sticky parent, such as `/tmp`, lets only its owner.
fn check_parent(path: &Path, user: u32) -> Result<(), StateError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let failed = |errno: Errno| StateError::Directory { path: path.to_owned(), source: errno.into() };
    let stat = rustix::fs::stat(parent).map_err(failed)?;
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let is_sticky = mode & 0o1000 != 0;
    let is_owner_good = owner == 0 || owner == user || (is_sticky && owner == UNMAPPED);
    if is_owner_good && (is_sticky || (mode & 0o002 == 0 && !others_group_writes(&stat))) {
        return Ok(());
    }
    Err(StateError::Parent { path: parent.to_owned(), owner, mode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn config(path: &Path) -> Config {
        Config::parse(&format!("[general]\nstate_dir={}", path.display()), "test.cfg").0
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_directory_is_made_private_with_its_parents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        StateDir::open(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        let state = StateDir::open(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(matches!(StateDir::open(&link), Err(StateError::Kind { .. })));
        for end in ["/", "/.", "//./"] {
            let link = PathBuf::from(format!("{}{end}", link.display()));
            assert!(matches!(StateDir::open(&link), Err(StateError::Kind { .. })), "{end}");
        }
        let outside = directory.path().join("outside");
        fs::write(&outside, "theirs").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&outside, real.join("file")).unwrap();
        assert!(matches!(state.open_file("file"), Err(StateError::Kind { .. })));
        assert!(matches!(state.open_lock("file"), Err(StateError::Kind { .. })));
        assert!(state.create_text("file", "ours").unwrap_err().is_exists());
        assert_eq!((mode(&outside), fs::read_to_string(&outside).unwrap()), (0o644, "theirs".to_owned()));
    }

    #[test]
    fn what_others_own_or_may_exchange_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = StateDir::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Open { mode: 0o1777, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        if chown(path.join("file"), Some(65534), None).is_err() {
            return testkit::skip("what_others_own_or_may_exchange_is_refused", "only root can give a file away");
        }
        assert!(matches!(state.open_file("file"), Err(StateError::Owner { owner: 65534, .. })));
        assert!(matches!(state.open_lock("file"), Err(StateError::Owner { owner: 65534, .. })));
        chown(&path, Some(65534), None).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Owner { owner: 65534, .. })));
    }

    #[test]
    fn a_group_or_a_parent_that_could_exchange_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (parent, path) = (directory.path().join("parent"), directory.path().join("parent/state"));
        StateDir::open(&path).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&parent, 0o777);
        assert!(matches!(StateDir::open(&path), Err(StateError::Parent { mode: 0o777, .. })));
        assert!(matches!(StateDir::open(&parent.join("new")), Err(StateError::Parent { .. })));
        assert!(!parent.join("new").exists());
        set(&parent, 0o1777);
        StateDir::open(&path).unwrap();
        set(&parent, 0o700);
        set(&path, 0o770);
        StateDir::open(&path).unwrap();
        if chown(&path, None, Some(65534)).is_err() {
            let name = "a_group_or_a_parent_that_could_exchange_it_is_refused";
            return testkit::skip(name, "only root can give a file away");
        }
        set(&path, 0o770);
        assert!(matches!(StateDir::open(&path), Err(StateError::Group { group: 65534, .. })));
        set(&path, 0o750);
        StateDir::open(&path).unwrap();
        chown(&parent, Some(65534), None).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Parent { owner: 65534, .. })));
        assert!(matches!(StateDir::open(&parent.join("new")), Err(StateError::Parent { owner: 65534, .. })));
    }

    #[test]
    fn a_path_that_changes_does_not_change_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("state"), directory.path().join("moved"));
        let state = StateDir::open(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        state.create_text("file", "x").unwrap();
        assert!(moved.join("file").exists() && !path.join("file").exists());
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&config(&directory.path().join("state"))).unwrap();
        let failed = state.create("file", |mut file| {
            file.write_all(b"half").unwrap();
            Err(state.file_error("file", Errno::NOSPC))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        // What killed processes have left goes; process 1 runs.
        for draft in ["file.4194999", "file.1", "file.x"] {
            fs::write(state.path_of(draft), "").unwrap();
        }
        state.create_text("file", "whole").unwrap();
        let mut names: Vec<_> = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "file.1", "file.x"]);
        close();
    }
}
