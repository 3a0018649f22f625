//! How resolv.conf is replaced and put back: what lies there decides on a list of steps. After each of them, and in the
//! middle of one, a process may be killed: [`to_undo`] of what then lies there leads back to the file before.
//!
//! A file is replaced by a rename. Ours is written beside it; the file before gets a second name, so that it keeps its
//! inode, mode and owner, or stays the symbolic link that it is; then ours takes its first name. A file that is a mount of
//! its own is written in place: first longer than both texts by newlines, then cut, so that no mixture of both is ever in
//! it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::text::{self, Mark};
use super::{FILE, NEW, Owner, Undone};

/// More is no resolv.conf.
const MOST_BYTES: u64 = 1 << 20;

/// What the name resolv.conf stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    File,
    Link,
    Other,
}

/// What lies there.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    /// The file is a mount of its own.
    pub(super) is_mount: bool,
    /// The file's text; of a symbolic link that of its target. Empty if it cannot be read.
    text: Vec<u8>,
    /// The mark, if the file is ours.
    pub(super) mark: Option<Mark>,
    /// The text of the file before, if it is there.
    backup: Option<Vec<u8>>,
    /// Its name.
    backup_name: String,
    has_new: bool,
}

/// A step, in the directory of the file.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes the file that is to come, to the disk.
    Prepare(Vec<u8>),
    /// Gives the file its second name.
    Keep(String),
    Rename(String, String),
    Remove(String),
    /// Writes this into the file in place.
    Overwrite(Vec<u8>),
    /// Cuts the file in place.
    Cut(u64),
}

impl Found {
    /// Looks at the directory, in which the file before has the name `backup_name`. An error comes with what could not be
    /// done.
    pub(super) fn read(directory: &Path, backup_name: String, is_mount: bool) -> Result<Found, (String, io::Error)> {
        let file = directory.join(FILE);
        let failed = |path: &Path| {
            let what = format!("read {}", path.display());
            move |error| (what, error)
        };
        let kind = match fs::symlink_metadata(&file) {
            Ok(found) if found.is_symlink() => Kind::Link,
            Ok(found) if found.is_file() => Kind::File,
            Ok(_) => Kind::Other,
            Err(error) if error.kind() == ErrorKind::NotFound => Kind::Missing,
            Err(error) => return Err(failed(&file)(error)),
        };
        let text = match kind {
            Kind::File => read(&file).map_err(failed(&file))?,
            // It may lead nowhere, or to what is no file.
            Kind::Link => read(&file).unwrap_or_default(),
            Kind::Missing | Kind::Other => Vec::new(),
        };
        let backup = directory.join(&backup_name);
        let backup = match fs::symlink_metadata(&backup) {
            Ok(_) => Some(read(&backup).unwrap_or_default()),
            Err(_) => None,
        };
        Ok(Found {
            is_mount: is_mount && kind == Kind::File,
            mark: Mark::of(&text).filter(|_| kind == Kind::File),
            kind,
            text,
            backup,
            backup_name,
            has_new: fs::symlink_metadata(directory.join(NEW)).is_ok(),
        })
    }

    /// Says what [`to_undo`] comes to.
    pub(super) fn outcome(&self) -> Undone {
        match (&self.mark, &self.backup, self.kind) {
            (Some(_), Some(_), _) | (None, Some(_), Kind::Missing) => Undone::PutBack,
            (Some(mark), None, _) if mark.had_file => Undone::Lost,
            (Some(_), None, _) => Undone::Removed,
            (None, Some(backup), _) if self.text == *backup => Undone::Prepared,
            (None, Some(_), _) if self.is_half_put_back() => Undone::PutBack,
            (None, Some(_), _) => Undone::Foreign,
            (None, None, _) if self.has_new => Undone::Prepared,
            (None, None, _) => Undone::Nothing,
        }
    }

    /// Whether the file before was written in place, and only the cut is missing.
    fn is_half_put_back(&self) -> bool {
        let rest = self.backup.as_ref().and_then(|backup| self.text.strip_prefix(&backup[..]));
        self.is_mount && rest.is_some_and(|rest| !rest.is_empty() && rest.iter().all(|byte| *byte == b'\n'))
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let found = fs::metadata(file)?;
    if !found.is_file() || found.len() > MOST_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "expected a file of at most 1 MiB"));
    }
    fs::read(file)
}

/// Whether the file is a mount of its own. Kernels before 5.8 do not say; there a rename fails with EBUSY.
pub(super) fn is_mount(file: &Path) -> bool {
    statx(CWD, file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Returns the steps that make `servers` the name servers. If the file is ours already it is `owner`'s.
pub(super) fn to_set(found: &Found, servers: &[Ipv4Addr], owner: &Owner) -> Vec<Step> {
    let (before, is_ours) = match (&found.mark, found.kind) {
        (Some(mark), _) if mark.owner == *owner => (found.backup.as_deref().or(mark.had_file.then_some(b"")), true),
        (_, Kind::Missing) => (None, false),
        _ => (Some(&found.text[..]), false),
    };
    let backup = || found.backup_name.clone();
    let ours = text::ours(servers, owner, before.map(|text| (&found.backup_name[..], text)));
    let in_place = || overwrite(&ours, found.text.len());
    let take_place = || Step::Rename(NEW.to_owned(), FILE.to_owned());
    match (found.is_mount, is_ours, before) {
        (true, true, _) => in_place().into(),
        (true, false, _) => {
            let copy = vec![Step::Prepare(found.text.clone()), Step::Rename(NEW.to_owned(), backup())];
            [copy, in_place().into()].concat()
        }
        (false, false, Some(_)) => vec![Step::Prepare(ours), Step::Keep(backup()), take_place()],
        (false, _, _) => vec![Step::Prepare(ours), take_place()],
    }
}

/// Returns the steps that lead back to the file before. What something else has written meanwhile stays.
pub(super) fn to_undo(found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    if found.has_new {
        steps.push(Step::Remove(NEW.to_owned()));
    }
    let is_ours = found.mark.is_some();
    match &found.backup {
        Some(backup) if is_ours && found.is_mount => steps.extend(overwrite(backup, found.text.len())),
        Some(_) if is_ours || found.kind == Kind::Missing => {
            steps.push(Step::Rename(found.backup_name.clone(), FILE.to_owned()))
        }
        Some(backup) if found.is_half_put_back() => steps.push(Step::Cut(backup.len() as u64)),
        Some(_) => {}
        None if found.mark.as_ref().is_some_and(|mark| !mark.had_file) => steps.push(Step::Remove(FILE.to_owned())),
        None => {}
    }
    if found.backup.is_some() {
        // Also after a rename, which does nothing if both are names of one file.
        steps.push(Step::Remove(found.backup_name.clone()));
    }
    steps
}

/// The steps that replace a text of `length` bytes in place.
fn overwrite(text: &[u8], length: usize) -> [Step; 2] {
    let mut padded = text.to_owned();
    padded.resize(text.len().max(length), b'\n');
    [Step::Overwrite(padded), Step::Cut(text.len() as u64)]
}

/// Performs the steps in turn. An error comes with what could not be done.
pub(super) fn perform(directory: &Path, steps: &[Step]) -> Result<(), (String, io::Error)> {
    for step in steps {
        step.perform(directory).map_err(|error| (step.describe(directory), error))?;
    }
    Ok(())
}

impl Step {
    fn perform(&self, directory: &Path) -> io::Result<()> {
        let at = |name: &str| directory.join(name);
        match self {
            Step::Prepare(text) => {
                remove(&at(NEW))?;
                let mut file = OpenOptions::new().write(true).create_new(true).open(at(NEW))?;
                file.write_all(text)?;
                // Every user's programs read it, whatever the mask of this process says.
                file.set_permissions(Permissions::from_mode(0o644))?;
                return file.sync_all();
            }
            Step::Keep(backup) => keep(&at(FILE), &at(backup))?,
            Step::Rename(from, to) => fs::rename(at(from), at(to))?,
            Step::Remove(name) => remove(&at(name))?,
            // One write of less than a page: a reader finds the one text or the other, and a kill waits for its end.
            Step::Overwrite(text) => {
                let mut file = OpenOptions::new().write(true).open(at(FILE))?;
                file.write_all(text)?;
                return file.sync_all();
            }
            Step::Cut(length) => {
                let file = OpenOptions::new().write(true).open(at(FILE))?;
                file.set_len(*length)?;
                return file.sync_all();
            }
        }
        fs::File::open(directory)?.sync_all()
    }

    fn describe(&self, directory: &Path) -> String {
        let at = |name: &str| directory.join(name).display().to_string();
        match self {
            Step::Prepare(_) => format!("write {}", at(NEW)),
            Step::Keep(backup) => format!("keep {} as {}", at(FILE), at(backup)),
            Step::Rename(from, to) => format!("rename {} to {}", at(from), at(to)),
            Step::Remove(name) => format!("remove {}", at(name)),
            Step::Overwrite(_) | Step::Cut(_) => format!("write {} in place", at(FILE)),
        }
    }
}

/// Gives a file a second name; where the file system has no second names, this one for the first.
fn keep(file: &Path, backup: &Path) -> io::Result<()> {
    match fs::hard_link(file, backup) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK)) =>
        {
            fs::rename(file, backup)
        }
        result => result,
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
