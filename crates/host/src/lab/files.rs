//! Files of its own for a host of the demo: what is written there does not reach this machine.

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::namespace::unshare;

/// Moves this process, which must have one thread, into a new mount namespace in which these directories are empty and
/// writable. A directory that this machine does not have is left out. Nothing that is mounted here is seen outside.
///
/// # Errors
/// If the kernel permits no mount namespace, or no mounts in it. Then the directories may be this machine's.
pub fn hide_directories(directories: &[&str]) -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    // Mounts of a shared tree would appear on this machine too.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for directory in directories.iter().filter(|directory| Path::new(directory).is_dir()) {
        mount("tmpfs", *directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755"))?;
    }
    Ok(())
}
