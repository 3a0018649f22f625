//! The commands `vpn_stat` and `vpn_client`: words in, an answer out.

pub mod client;
pub mod stat;

/// What a command says, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 when it went well; otherwise the code of the C function behind it.
    pub code: i32,
    /// The reply.
    pub text: String,
}

impl Answer {
    fn new(code: i32, text: impl Into<String>) -> Answer {
        Answer { code, text: text.into() }
    }
}

/// The word behind an option, anywhere after the command's name. Some(None): the option is the last word.
fn option<'a>(words: &'a [String], name: &str) -> Option<Option<&'a str>> {
    let at = words.iter().skip(1).position(|word| word == name)? + 1;
    Some(words.get(at + 1).map(String::as_str))
}

/// The word behind an option; None when the option or the word is missing.
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
