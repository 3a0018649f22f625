//! A process is killed after any step of setting and undoing; then another one undoes.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// What is at the file's name: what kind, with its inode, mode and owner; the link's target; the text.
type State = (Option<(u64, u32, u32)>, Option<PathBuf>, Option<Vec<u8>>);

/// A host, at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Missing,
    File,
    /// A symbolic link to a manager's file.
    Link,
    /// One that leads nowhere.
    Dangling,
    /// A mount of its own.
    Mount,
}

struct Host {
    directory: TempDir,
    place: Place,
    dead: Owner,
}

const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(9, 9, 9, 9)];

impl Host {
    fn new(before: Before, text: &[u8]) -> Host {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        match before {
            Before::Missing => {}
            Before::File | Before::Mount => fs::write(&file, text).unwrap(),
            Before::Link => {
                fs::write(directory.path().join("managed"), text).unwrap();
                symlink("managed", &file).unwrap();
            }
            Before::Dangling => symlink("/nonexistent/stub", &file).unwrap(),
        }
        let place = Place { is_mount: before == Before::Mount, ..Place::at(directory.path()) };
        Host { directory, place, dead: "1/0/another-boot".parse().unwrap() }
    }

    fn state(&self) -> State {
        let file = self.place.file();
        let facts = |found: Metadata| (found.ino(), found.mode(), found.uid());
        (fs::symlink_metadata(&file).ok().map(facts), fs::read_link(&file).ok(), fs::read(&file).ok())
    }

    fn names(&self) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(self.directory.path()).unwrap().map(name).collect();
        names.sort();
        names
    }

    /// Performs at most `most` of these steps, as a process that is then killed.
    fn killed_after(&self, most: usize, steps: &[steps::Step]) {
        steps::perform(self.directory.path(), &steps[..most.min(steps.len())]).unwrap();
    }
}

fn befores() -> impl Strategy<Value = Before> {
    prop_oneof![
        Just(Before::Missing),
        Just(Before::File),
        Just(Before::Link),
        Just(Before::Dangling),
        Just(Before::Mount)
    ]
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"nameserver 192.0.2.53\n".to_vec()),
        Just(Vec::new()),
        Just(b"\n\n".to_vec()),
        "[ -~\n]{0,600}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..600),
        // A copy of ours, as a user may have made one.
        Just(text::ours(&SERVERS, &"7/7/old-boot".parse().unwrap(), Some((BACKUP, b"options edns0\n")))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_killed_process_leaves_can_be_undone(
        before in befores(), text in texts(), set in 0usize..6, changed in 0usize..4, undone in 0usize..5,
    ) {
        let host = Host::new(before, &text);
        let (state, names) = (host.state(), host.names());
        let found = host.place.found().unwrap();
        host.killed_after(set, &steps::to_set(&found, &SERVERS, &host.dead));
        let found = host.place.found().unwrap();
        if found.mark.as_ref().is_some_and(|mark| mark.owner == host.dead) {
            host.killed_after(changed, &steps::to_set(&found, &SERVERS[..1], &host.dead));
        }
        host.killed_after(undone, &steps::to_undo(&host.place.found().unwrap()));
        host.place.undo(&Owner::this()).unwrap();
        prop_assert_eq!(host.state(), state.clone());
        prop_assert_eq!(host.names(), names);
        // And again, which changes nothing.
        let again = host.place.undo(&Owner::this()).unwrap();
        prop_assert!(matches!(again, Undone::Nothing | Undone::Lost), "{:?}", again);
        prop_assert_eq!(host.state(), state);
    }

    #[test]
    fn a_start_after_a_killed_one_and_its_stop_lead_back(
        before in befores(), text in texts(), set in 0usize..6, undone in 0usize..5,
    ) {
        let host = Host::new(before, &text);
        let (state, names, this) = (host.state(), host.names(), Owner::this());
        let found = host.place.found().unwrap();
        host.killed_after(set, &steps::to_set(&found, &SERVERS, &host.dead));
        host.place.set(&SERVERS[..1], &this).unwrap();
        let text = String::from_utf8(fs::read(host.place.file()).unwrap()).unwrap();
        prop_assert!(text.contains("nameserver 10.98.0.1\n") && !text.contains("nameserver 9.9.9.9\n"), "{}", text);
        host.killed_after(undone, &steps::to_undo(&host.place.found().unwrap()));
        host.place.undo(&this).unwrap();
        prop_assert_eq!(host.state(), state);
        prop_assert_eq!(host.names(), names);
    }
}

#[test]
fn what_something_else_writes_meanwhile_stays() {
    let this = Owner::this();
    for before in [Before::Missing, Before::File, Before::Link, Before::Mount] {
        let host = Host::new(before, b"nameserver 192.0.2.53\n");
        host.place.set(&SERVERS, &this).unwrap();
        let mut known = Known::default();
        assert!(host.place.is_set_by(&this, &mut known) && host.place.is_set_by(&this, &mut known.clone()));
        // As DHCP clients do: another file takes its place. That of a mount cannot be taken.
        let theirs = if before == Before::Mount { host.place.file() } else { host.directory.path().join("theirs") };
        fs::write(&theirs, "nameserver 192.0.2.99\n").unwrap();
        if before != Before::Mount {
            fs::rename(theirs, host.place.file()).unwrap();
        }
        assert!(!host.place.is_set_by(&this, &mut known));
        let state = host.state();
        let again = &host.place;
        again.set(&SERVERS, &this).unwrap();
        assert!(again.is_set_by(&this, &mut known));
        again.undo(&this).unwrap();
        assert_eq!(host.state(), state, "{before:?}");
        again.set(&SERVERS, &this).unwrap();
        fs::write(host.place.file(), "nameserver 192.0.2.98\n").unwrap();
        assert_eq!(again.undo(&this).unwrap(), Undone::Foreign);
        assert_eq!(host.state().2.unwrap(), b"nameserver 192.0.2.98\n");
        assert!(!host.names().iter().any(|name| name.contains("cellframe")), "{:?}", host.names());
    }
}

#[test]
fn what_a_running_process_has_set_stays() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().to_owned();
    let boot = Owner::this().to_string().rsplit_once('/').unwrap().1.to_owned();
    let other: Owner = format!("{}/{started}/{boot}", child.id()).parse().unwrap();
    let host = Host::new(Before::File, b"nameserver 192.0.2.53\n");
    let before = host.state();
    host.place.set(&SERVERS, &other).unwrap();
    let set = host.state();
    assert_eq!(host.place.undo(&Owner::this()).unwrap(), Undone::Running(other.clone()));
    let error = host.place.set(&SERVERS, &Owner::this()).unwrap_err().to_string();
    assert!(error.contains(&format!("of process {}, which runs", child.id())), "{error}");
    assert_eq!(host.state(), set);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(host.place.undo(&Owner::this()).unwrap(), Undone::PutBack);
    assert_eq!(host.state(), before);
}

#[test]
fn other_things_than_files_are_refused() {
    let host = Host::new(Before::Missing, b"");
    fs::create_dir(host.place.file()).unwrap();
    let error = host.place.set(&SERVERS, &Owner::this()).unwrap_err().to_string();
    assert!(error.contains("is neither a file nor a symbolic link; expected one of these"), "{error}");
    assert_eq!(host.names(), [FILE]);
}

#[test]
fn a_text_of_ours_without_the_file_before_is_told() {
    let host = Host::new(Before::File, b"nameserver 192.0.2.53\n");
    host.place.set(&SERVERS, &host.dead).unwrap();
    fs::remove_file(host.directory.path().join(BACKUP)).unwrap();
    let left = host.state();
    assert_eq!(host.place.undo(&Owner::this()).unwrap(), Undone::Lost);
    assert_eq!(host.state(), left);
}

#[test]
fn a_mount_in_another_namespace_keeps_its_copy() {
    let host = Host::new(Before::Mount, b"nameserver 192.0.2.53\n");
    let before = host.state();
    host.place.set(&SERVERS, &host.dead).unwrap();
    // The directory without the mount: what is at the name is another file.
    let mounted = host.directory.path().join("mounted");
    fs::rename(host.place.file(), &mounted).unwrap();
    let below = Place { is_mount: false, ..host.place.clone() };
    for text in ["nameserver 192.0.2.1\n", "nameserver 192.0.2.53\n"] {
        fs::write(below.file(), text).unwrap();
        assert_eq!(below.undo(&Owner::this()).unwrap(), Undone::Nothing);
        below.set(&SERVERS, &Owner::this()).unwrap();
        assert_eq!(below.undo(&Owner::this()).unwrap(), Undone::PutBack);
        assert_eq!(fs::read_to_string(below.file()).unwrap(), text);
    }
    fs::rename(mounted, host.place.file()).unwrap();
    assert_eq!(host.place.undo(&Owner::this()).unwrap(), Undone::PutBack);
    assert_eq!((host.state(), host.names()), (before, vec![FILE.to_owned()]));
}
