//! A terminal of 120 columns for a program, and what its screen shows (pty(7)).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The terminal, from the side of the person before it.
#[derive(Debug)]
pub struct Terminal {
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Creates a terminal; returns it and the end for the program. The reading ends when no process has that end any more.
    pub fn new() -> (Terminal, OwnedFd) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        tcsetwinsize(&person, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        // The standard library sets close-on-exec.
        let path = Path::new(name.to_str().unwrap());
        let program = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap().into();
        let written = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&written);
        let reader = thread::spawn(move || {
            let (mut from, mut bytes) = (File::from(person), [0; 4096]);
            // EIO once the other end is closed.
            while let Ok(count) = from.read(&mut bytes) {
                to.lock().unwrap().extend(&bytes[..count]);
            }
        });
        (Terminal { written, reader }, program)
    }

    /// All that the program has written so far, with the terminal's commands.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until no process has the program's end, and returns all that was written.
    pub fn finish(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }
}

/// The lines that a screen shows after this was written to it: text, carriage return, new line, cursor up (`ESC[nA`) and to
/// the first line (`ESC[H`), and the erasing of a line (`ESC[2K`), of its rest (`ESC[K`) or of what is below, too (`ESC[J`).
/// Panics at any other command.
pub fn screen(written: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0);
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\x1b' => match command(&mut characters).as_str() {
                "2K" => lines[row].clear(),
                "K" | "0K" => lines[row].truncate(column),
                "H" => (row, column) = (0, 0),
                "J" | "0J" => {
                    lines[row].truncate(column);
                    lines.truncate(row + 1);
                }
                up if up.ends_with('A') => row = row.saturating_sub(up[..up.len() - 1].parse().unwrap_or(1)),
                other => panic!("the terminal's command {other:?}: {written:?}"),
            },
            text => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = text;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

/// Reads the rest of a command behind its ESC: "[", numbers, and a letter that ends it.
fn command(characters: &mut impl Iterator<Item = char>) -> String {
    let mut command = String::new();
    while !command.ends_with(|last: char| last.is_ascii_alphabetic()) {
        command.extend(characters.next().filter(|next| *next != '['));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::screen;

    #[test]
    fn a_screen_shows_what_was_not_erased() {
        assert_eq!(screen("one\r\ntwo\r\nthree\x1b[Hnew\x1b[K\r\n\x1b[J"), ["new", ""]);
        let written = "one\r\ntwo\r\x1b[2Kthree\r\n\x1b[1A\x1b[2K\rfour\r\n5678\rx\x1b[K";
        assert_eq!(screen(written), ["one", "four", "x"]);
    }
}
