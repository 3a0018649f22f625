//! The node's `.cfg` text: `[section]`, `key=value`, `key=[lists]`, comments. An invalid line affects only itself.

use std::fmt;

use super::security;
use super::value::{Sections, Value, name};

/// Most lines of a list; a `[` without a `]` is detected after as many.
const LIST_LINES_MAX: usize = 1024;

/// An invalid line, which is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file that contains the line.
    pub origin: String,
    /// The line's number, from 1.
    pub line: usize,
    /// The error, and the expected text.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.origin, self.line, self.message)
    }
}

/// Why a file is no configuration text, if it is not. With only its invalid lines left out it would be an empty
/// configuration, and that starts.
pub(super) fn refuse(text: &[u8]) -> Option<&'static str> {
    if text.contains(&0) {
        return Some("it has NUL bytes; expected UTF-8, not UTF-16");
    }
    // Editors that convert line ends twice leave several CRs before a LF.
    let mut behind = text.split(|&byte| byte == b'\r').skip(1).map(<[u8]>::first);
    let last = text.last() == Some(&b'\r');
    let is_alone = |next: Option<&u8>| next.is_some_and(|next| *next != b'\n');
    if behind.any(is_alone) || last && !text.contains(&b'\n') {
        return Some("a line ends with CR alone; expected LF, or CR LF");
    }
    let (mut sections, mut diagnostics) = (Sections::new(), Vec::new());
    parse_into(&mut sections, &mut diagnostics, text, "");
    // A security key that cannot be read is there, too, and the start will name it.
    let has_key = sections.values().any(|keys| !keys.is_empty());
    (!diagnostics.is_empty() && !has_key).then_some("no line of it sets a key; expected `[section]` and `key=value`")
}

/// Adds the text's values to `sections` (later keys win) and its invalid lines to `diagnostics`.
pub(super) fn parse_into(sections: &mut Sections, diagnostics: &mut Vec<Diagnostic>, text: &[u8], origin: &str) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    let mut parser = Parser { sections, diagnostics, origin, section: None };
    let mut next = 0;
    while next < lines.len() {
        next += parser.line(&lines[next..], next + 1);
    }
}

struct Parser<'a> {
    sections: &'a mut Sections,
    diagnostics: &'a mut Vec<Diagnostic>,
    origin: &'a str,
    /// None before the first section, and after an invalid section line: a key there belongs to no section, and must
    /// not be added to the section above.
    section: Option<String>,
}

impl Parser<'_> {
    /// Parses the first of `lines`, whose number is `number`, and returns how many lines it used (several for a list).
    fn line(&mut self, lines: &[&[u8]], number: usize) -> usize {
        let line = match std::str::from_utf8(lines[0]) {
            Ok(line) => without_comment(line),
            Err(_) => {
                self.report(number, "not UTF-8 text; the line is ignored".into());
                let text = String::from_utf8_lossy(lines[0]);
                self.put_unreadable(without_comment(&text), "not UTF-8 text");
                return 1;
            }
        };
        if line.is_empty() {
            return 1;
        }
        if let Some(rest) = line.strip_prefix('[') {
            self.section_line(rest, number);
            return 1;
        }
        let Some((key, value)) = line.split_once('=') else {
            self.report(number, format!("expected `[section]` or `key=value`, found `{}`", line.escape_debug()));
            self.put_unreadable(line, "no `=` behind the key");
            return 1;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            self.report(number, "expected a name before `=`".into());
            return 1;
        }
        match list(value, &lines[1..]) {
            List::None => {
                self.put(key, Value::Scalar(value.to_owned()), number);
                1
            }
            List::Closed { items, lines } => {
                self.put(key, Value::List(items), number);
                1 + lines
            }
            List::Bad(problem) => {
                self.report(number, format!("the list `{key}` {problem}; the line is ignored"));
                self.put_unreadable(line, &format!("the list {problem}"));
                1
            }
        }
    }

    /// Notes that a line sets a key to something that cannot be read. It is ignored unless the key is a security key.
    fn put_unreadable(&mut self, line: &str, why: &str) {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let key = name(line.split(|c| !is_part(c)).next().unwrap_or_default());
        let text = line.strip_prefix(&*key).and_then(|rest| rest.trim_start().strip_prefix('=')).unwrap_or(line);
        let value = Value::Unreadable(format!("{} ({why})", text.trim().escape_debug()));
        match &self.section {
            Some(section) => {
                if let Some(key) = security::meant(section, &key) {
                    self.sections.entry(section.clone()).or_default().insert(key.to_owned(), value);
                } else {
                    for known in security::misplaced(section, &key) {
                        self.sections.entry(known.to_owned()).or_default().entry(key.clone()).or_insert(value.clone());
                    }
                }
            }
            None => {
                for section in security::sections_of(&key) {
                    self.sections.entry(section.to_owned()).or_default().insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn section_line(&mut self, rest: &str, number: usize) {
        let section =
            rest.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty() && !name.contains(['[', ']']));
        self.section = section.map(name);
        match &self.section {
            Some(section) => {
                self.sections.entry(section.clone()).or_default();
            }
            None => self.report(
                number,
                format!("expected `[section]`, found `[{}`; its keys are ignored", rest.escape_debug()),
            ),
        }
    }

    fn put(&mut self, key: &str, value: Value, number: usize) {
        let Some(section) = &self.section else {
            self.report(number, format!("`{key}` stands outside of any section: expected `[section]` above it"));
            return self.put_unreadable(key, "the key stands outside of any section");
        };
        self.sections.entry(section.clone()).or_default().insert(name(key), value);
    }

    fn report(&mut self, line: usize, message: String) {
        self.diagnostics.push(Diagnostic { origin: self.origin.to_owned(), line, message });
    }
}

/// Removes the comment and outer white space from a line. A comment sign counts at the start of the line and after
/// white space, so that `color=#fff` and `path=a;b` keep theirs.
fn without_comment(line: &str) -> &str {
    let mut after_space = true;
    for (at, character) in line.char_indices() {
        if after_space && matches!(character, '#' | ';') {
            return line[..at].trim();
        }
        after_space = character.is_whitespace();
    }
    line.trim()
}

enum List {
    /// The value is not a list.
    None,
    /// A list, and the number of further lines that it used.
    Closed {
        items: Vec<String>,
        lines: usize,
    },
    Bad(&'static str),
}

/// Reads a list that begins in `first` and may continue in `rest`. Brackets nest, for `[[::]:8079,0.0.0.0:8079]`; a
/// value like `[::1]:8079`, with text after its bracket, is not a list.
fn list(first: &str, rest: &[&[u8]]) -> List {
    let Some(first) = first.strip_prefix('[') else { return List::None };
    let mut reader = ListReader { items: Vec::new(), item: String::new(), depth: 1 };
    if let Some(behind) = reader.take(first) {
        return if behind.is_empty() { reader.closed(0) } else { List::None };
    }
    for (used, line) in rest.iter().take(LIST_LINES_MAX).enumerate() {
        let Ok(line) = std::str::from_utf8(line) else {
            return List::Bad("has a line that is not UTF-8 text");
        };
        // A line break separates items as a comma does.
        reader.end_item();
        match reader.take(without_comment(line)) {
            Some("") => return reader.closed(used + 1),
            Some(_) => return List::Bad("has text behind its closing `]`"),
            None => {}
        }
    }
    List::Bad("is never closed: expected `]`")
}

struct ListReader {
    items: Vec<String>,
    item: String,
    depth: usize,
}

impl ListReader {
    /// Reads one line's text; returns the trimmed text after the closing bracket if the list ends here.
    fn take<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        for (at, character) in text.char_indices() {
            match character {
                ',' if self.depth == 1 => self.end_item(),
                ']' if self.depth == 1 => {
                    self.end_item();
                    return Some(text[at + 1..].trim());
                }
                _ => {
                    match character {
                        '[' => self.depth += 1,
                        ']' => self.depth -= 1,
                        _ => {}
                    }
                    self.item.push(character);
                }
            }
        }
        None
    }

    fn end_item(&mut self) {
        let item = std::mem::take(&mut self.item);
        let item = item.trim();
        if !item.is_empty() {
            self.items.push(item.to_owned());
        }
    }

    fn closed(self, lines: usize) -> List {
        List::Closed { items: self.items, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> (Sections, Vec<Diagnostic>) {
        let (mut sections, mut diagnostics) = Default::default();
        parse_into(&mut sections, &mut diagnostics, text, "test.cfg");
        (sections, diagnostics)
    }

    fn scalar(text: &str) -> Value {
        Value::Scalar(text.into())
    }

    fn items(items: &[&str]) -> Value {
        Value::List(items.iter().map(|&item| item.into()).collect())
    }

    #[test]
    fn values_as_written() {
        let table: &[(&str, Value)] = &[
            ("k=v", scalar("v")),
            ("  k \t=  v w  ", scalar("v w")),
            ("k=v\r", scalar("v")),
            ("k=", scalar("")),
            ("k=a=b", scalar("a=b")),
            ("k=v # comment", scalar("v")),
            ("k=v\t; comment", scalar("v")),
            ("k=v#w;x", scalar("v#w;x")),
            ("k= # all comment", scalar("")),
            ("k=first\nk=second", scalar("second")),
            ("k=[]", items(&[])),
            ("k=[a,b, c ]", items(&["a", "b", "c"])),
            ("k=[a,,b,]", items(&["a", "b"])),
            ("k=[a, # one\n  b\r\n ; none\n\n c] # done", items(&["a", "b", "c"])),
            ("k=[[::]:8079,0.0.0.0:1]", items(&["[::]:8079", "0.0.0.0:1"])),
            ("k=[::1]:8079", scalar("[::1]:8079")),
            ("k=ключ", scalar("ключ")),
        ];
        for (text, expected) in table {
            let (sections, diagnostics) = parse(format!("\u{feff}# head\n[ s ] ; comment\n{text}\n").as_bytes());
            assert_eq!(diagnostics, [], "{text:?}");
            assert_eq!(sections["s"].get("k"), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_counts() {
        let table: &[(&[u8], usize)] = &[
            (b"lost=1\n[s]\nk=v", 1),
            (b"[s]\nwhat\nk=v", 2),
            (b"[s]\n=1\nk=v", 2),
            (b"[s]\nx=[a,b\nk=v", 2),
            (b"[s]\nx=[a\nb] c\n[s]\nk=v", 2),
            (b"[s]\nx=\xff\xfe\nk=v", 2),
            (b"[s\n[s]\nk=v", 1),
            (b"[]\n[s]\nk=v", 1),
            (b"[s] x\n[s]\nk=v", 1),
        ];
        for (text, line) in table {
            let (sections, diagnostics) = parse(text);
            let text = String::from_utf8_lossy(text);
            assert_eq!(diagnostics.first().map(|d| d.line), Some(*line), "{text}");
            assert_eq!(sections["s"].get("k"), Some(&scalar("v")), "{text}");
        }
        let (_, diagnostics) = parse(b"[s]\nwhat");
        assert_eq!(diagnostics[0].to_string(), "test.cfg:2: expected `[section]` or `key=value`, found `what`");
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let text = "[srv_vpn]\nclient_isolation=true\n";
        for (bytes, said) in [
            (utf_16(text), "NUL"),
            (utf_16(&format!("\u{feff}{text}")), "NUL"),
            (text.encode_utf16().flat_map(u16::to_be_bytes).collect(), "NUL"),
            (format!("{text}\0").into(), "NUL"),
            (text.replace('\n', "\r").into(), "CR"),
            (format!("{text}[server]\renabled=false\n").into(), "CR"),
            (b"[srv_vpn]\r".to_vec(), "CR"),
            (b"{\"srv_vpn\": {\"client_isolation\": true}}\n".to_vec(), "no line"),
            (b"srv_vpn:\n  wallet_addr: x\n".to_vec(), "no line"),
            (b"\x1f\x8b\x08\x01\xff\xfe\x80\n\xff".to_vec(), "no line"),
        ] {
            let refused = refuse(&bytes).unwrap_or_default();
            assert!(refused.contains(said), "{:?}: {refused:?}", String::from_utf8_lossy(&bytes));
        }
        for text in ["", "\n# nothing\n", "[s]", "[s]\r\nk=v\r\r\n", "[s]\nk=v\r", "[s]\nwhat\nk=v\n"] {
            assert_eq!(refuse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn keys_below_a_bad_section_stay_out_of_the_section_above() {
        let (sections, diagnostics) = parse(b"[s]\nk=1\n[t\nk=2");
        assert_eq!(sections["s"]["k"], scalar("1"));
        assert_eq!(diagnostics.len(), 2);
    }

    #[test]
    fn an_open_list_does_not_swallow_the_file() {
        let text = format!("[s]\nk=[a\n{}", "x=1\n".repeat(LIST_LINES_MAX + 10));
        let (sections, diagnostics) = parse(text.as_bytes());
        assert_eq!((diagnostics.len(), &sections["s"]["x"]), (1, &scalar("1")));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&text);
        }

        #[test]
        fn any_lines_of_config_signs_parse(text in "[\\[\\]=,#; a\r\n]{0,200}") {
            parse(text.as_bytes());
        }

        #[test]
        fn a_written_value_comes_back(
            section in "[a-z][a-z0-9_.-]{0,12}", key in "[a-z][a-z0-9_.-]{0,12}",
            value in "[^\\s\\[#;\\pC][^\\s\\pC]{0,30}",
        ) {
            let (sections, diagnostics) = parse(format!("[{section}]\n{key} = {value}\r\n").as_bytes());
            prop_assert_eq!(diagnostics, []);
            prop_assert_eq!(&sections[&name(&section)][&name(&key)], &Value::Scalar(value));
        }

        #[test]
        fn a_written_list_comes_back(list in proptest::collection::vec("[a-z0-9:./-]{1,20}", 0..10)) {
            for separator in [",", " , ", "\n", ",\r\n\t# comment\n"] {
                let text = format!("[s]\nk=[{}]", list.join(separator));
                prop_assert_eq!(&parse(text.as_bytes()).0["s"]["k"], &Value::List(list.clone()));
            }
        }
    }
}
