//! The commands `vpn_stat` and `vpn_client`: each takes words and returns an answer.

pub(crate) mod client;
#[cfg(feature = "server")]
mod history;
#[cfg(feature = "server")]
mod leases;
mod names;
mod sessions;
pub(crate) mod stat;

/// A command's reply and exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 for success, otherwise the code of the C function that failed.
    pub code: i32,
    /// The reply.
    pub text: String,
}

impl Answer {
    fn new(code: i32, text: impl Into<String>) -> Answer {
        Answer { code, text: text.into() }
    }
}

/// The words after a command's name, each of which must have a meaning.
#[cfg(feature = "server")]
struct Words<'a>(std::slice::Iter<'a, String>);

#[cfg(feature = "server")]
impl<'a> Words<'a> {
    fn after_name(words: &'a [String]) -> Words<'a> {
        Words(words.get(1..).unwrap_or_default().iter())
    }

    fn next(&mut self) -> Option<&'a str> {
        self.0.next().map(String::as_str)
    }

    /// Returns the word that follows the option, or the refusal.
    fn value(&mut self, option: &str, expected: &str) -> Result<&'a str, Answer> {
        self.next().ok_or_else(|| Answer::new(-1, format!("parameter {option} has no value; expected {expected}")))
    }
}

/// Finds an option after the command's name and returns the word that follows it; `Some(None)` if no word follows.
fn option<'a>(words: &'a [String], name: &str) -> Option<Option<&'a str>> {
    let at = words.iter().skip(1).position(|word| word == name)? + 1;
    Some(words.get(at + 1).map(String::as_str))
}

/// Returns the word that follows an option; `None` if the option or the word is missing.
fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    option(words, name).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let words: Vec<String> = ["-net", "start", "-net", "backbone", "-addr"].map(String::from).to_vec();
        assert_eq!(value(&words, "-net"), Some("backbone"));
        assert_eq!(option(&words, "-addr"), Some(None));
        assert_eq!(value(&words, "-addr"), None);
        assert_eq!(option(&words, "-port"), None);
    }
}
