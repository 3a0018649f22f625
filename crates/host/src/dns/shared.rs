//! Whether a file is also that of programs that use another network: a process in a network namespace of its own, as of
//! `ip netns exec`, has the machine's /etc unless somebody has given it another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Processes that use the machine's own network and files. The first process may hide from everyone, as that of a virtual
/// machine may; the kernel's first thread does not. In a container the second process is any of its own.
pub(super) const OF_MACHINE: [&str; 2] = ["/proc/1", "/proc/2"];

/// Returns whether the file is also that of the machine, whose network is another one; false if none of the processes
/// `of_machine` can be looked at. The first one that can be decides.
pub(super) fn is_shared(file: &Path, of_machine: &[&Path]) -> bool {
    let ours = network(Path::new("/proc/thread-self"));
    let Some((machine, theirs)) = of_machine.iter().find_map(|process| Some((process, network(process)?))) else {
        log::debug!("whether {} is also that of another network is not known", file.display());
        return false;
    };
    // The directory as well: where the file is a mount of its own, it is written in place.
    Some(theirs) != ours
        && file.parent().is_some_and(|directory| [directory, file].iter().all(|path| is_in(path, machine)))
}

fn network(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/net")).ok()
}

/// Returns whether the path leads to the same thing for the process.
fn is_in(path: &Path, process: &Path) -> bool {
    let id = |path: &Path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let theirs = path.strip_prefix("/").map(|path| process.join("root").join(path));
    id(path).is_some_and(|ours| theirs.is_ok_and(|theirs| id(&theirs) == Some(ours)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process in another network, with this one's files. `None` if this user may not make one.
    fn elsewhere() -> Option<Child> {
        let mut program = Command::new("unshare");
        program.args(["--net", "--map-root-user", "sleep", "60"]).stderr(Stdio::null());
        let mut child = program.spawn().ok()?;
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        loop {
            if child.try_wait().ok()?.is_some() {
                eprintln!("skipped: no network namespace can be made");
                return None;
            }
            if network(&process).is_some_and(|theirs| Some(theirs) != network(Path::new("/proc/self"))) {
                return Some(child);
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_of_another_network_is_shared_whoever_hides() {
        let Some(mut child) = elsewhere() else { return };
        let (other, hidden, this) = (format!("/proc/{}", child.id()), Path::new("/proc/0"), Path::new("/proc/self"));
        let other = Path::new(&other);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        fs::write(&file, "").unwrap();
        assert!(is_shared(&file, &[other]));
        assert!(is_shared(&file, &[hidden, other]), "the second one is asked where the first one hides");
        assert!(!is_shared(&file, &[this, other]), "the first one decides");
        assert!(!is_shared(&file, &[hidden]));
        assert!(!is_shared(&directory.path().join("missing"), &[other]));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
