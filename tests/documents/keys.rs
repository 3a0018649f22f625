//! docs/config.md has the keys that the code reads, with the bounds and the defaults of the code.
//!
//! The sources are read as tokens: an argument list with the name of a key is a read, such as
//! `number("payment_timeout", 5..=86_400, 120)`. What cannot be computed from the text is listed in [`COMPUTED`].

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{BinOp, Expr, Lit, RangeLimits, UnOp};

use crate::markdown::{Cell, Document};
use crate::repository::{Repository, text};

/// Keys whose default the code computes, or that it reads for another reason, with what it does.
const COMPUTED: [(&str, &str, &str); 6] = [
    ("srv_vpn", "device_mtu", "it is that of mtu"),
    ("srv_vpn", "leases_per_address", "a part of the pool"),
    ("srv_vpn", "new_leases_per_minute", "a multiple of leases_per_address"),
    ("srv_vpn", "allow_free_srv", "the service checks what the SDK reads, which has its default"),
    ("srv_vpn", "enabled", "a node's main reads it"),
    ("server", "max_streams_per_address", "0 stands for it"),
];

/// Keys whose bounds, or bounds and default, stand in a closure that several keys share.
const SHARED: [(&str, &str); 8] = [
    ("srv_vpn", "limit_down"),
    ("srv_vpn", "limit_up"),
    ("srv_vpn", "leases_per_address"),
    ("srv_vpn", "new_leases_per_minute"),
    ("srv_vpn", "account_book"),
    ("srv_vpn", "account_book_free"),
    ("server", "max_memory"),
    ("server", "max_memory_per_address"),
];

/// A number or a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i128),
    Flag(bool),
}

/// A place in the code that reads a key.
#[derive(Debug)]
pub(crate) struct Read {
    section: String,
    key: String,
    bounds: Option<(i128, i128)>,
    default: Option<Value>,
}

/// A key in docs/config.md.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) section: String,
    pub(crate) key: String,
    kind: String,
    default: String,
}

/// The keys of the document's tables.
pub(crate) fn documented(document: &Document) -> Vec<Key> {
    let mut keys = Vec::new();
    for row in &document.rows {
        let column = |name: &str| row.head.iter().position(|head| head.starts_with(name));
        let Some(place) = column("key").or_else(|| column("section, key")) else { continue };
        let Some(span) = row.cells[place].spans.first().filter(|_| row.cells[place].text != row.head[place]) else {
            continue;
        };
        let of_heading = row.heading.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
        let (section, key) = match span.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((section, key)) => (section, key),
            None => (of_heading.unwrap_or_default(), span.as_str()),
        };
        let cell = |name: &str| column(name).map(|at| row.cells[at].clone()).unwrap_or_default();
        let Cell { text: kind, .. } = cell("type");
        let Cell { text: default, .. } = cell("default");
        keys.push(Key { line: row.line, section: section.into(), key: key.into(), kind, default });
    }
    keys
}

impl Key {
    /// "5 to 86400 s" has the bounds 5 and 86400.
    fn bounds(&self) -> Option<(i128, i128)> {
        let words: Vec<&str> = self.kind.split_whitespace().collect();
        let [low, "to", high, unit @ ..] = words.as_slice() else { return None };
        if unit.first().is_some_and(|unit| !["s", "bytes", "kbit/s"].contains(unit)) {
            return None;
        }
        Some((low.parse().ok()?, high.parse().ok()?))
    }

    /// "1390; 1353 in a node" is 1390 here, "true in a node, else false" is false.
    fn value(&self) -> Option<Value> {
        let here = self.default.split(';').next()?.rsplit("else ").next()?.trim();
        match here {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            number => number.parse().ok().map(Value::Number),
        }
    }

    fn is_shared(&self) -> bool {
        SHARED.contains(&(&self.section, &self.key))
    }

    fn is_computed(&self) -> bool {
        COMPUTED.iter().any(|(section, key, _)| (*section, *key) == (&*self.section, &*self.key))
    }
}

/// The differences between the document and the reads.
pub(crate) fn faults(document: &Document, reads: &[Read]) -> Vec<String> {
    let keys = documented(document);
    let mut faults = Vec::new();
    for key in &keys {
        let of_key = |read: &&Read| read.section == key.section && read.key == key.key;
        let (reads, name) = (reads.iter().filter(of_key), format!("[{}] {}", key.section, key.key));
        let bounds: Vec<_> = reads.clone().filter_map(|read| read.bounds).collect();
        let at = document.at(key.line);
        if let Some(documented) = key.bounds()
            && !bounds.contains(&documented)
            && !(bounds.is_empty() && key.is_shared())
        {
            faults.push(format!("{at}: {name} has the bounds {documented:?}, the code has {bounds:?}"));
        }
        if key.bounds().is_none() && !bounds.is_empty() {
            faults.push(format!("{at}: {name} has no bounds, the code has {bounds:?}"));
        }
        let defaults: Vec<_> = reads.filter_map(|read| read.default).collect();
        let is_plain = key.kind.starts_with("truth") || key.bounds().is_some();
        let wrong = key.value().map_or(is_plain, |value| !defaults.contains(&value));
        if wrong && !key.is_computed() && !(defaults.is_empty() && key.is_shared()) {
            faults.push(format!("{at}: {name} has the default `{}`, the code has {defaults:?}", key.default));
        }
    }
    for read in reads {
        let is_known = keys.iter().any(|key| key.section == read.section && key.key == read.key);
        if !is_known {
            faults.push(format!("[{}] {} is read and has no row in docs/config.md", read.section, read.key));
        }
    }
    faults
}

/// The reads of numbers and truth values in the sources of the library and the embedded SDK.
pub(crate) fn reads(repository: &Repository) -> Vec<Read> {
    let sources: Vec<&Path> = repository
        .sources(&["rs"])
        .map(|path| path.as_path())
        .filter(|path| path.starts_with("src") || path.starts_with("crates/embedded/src"))
        .filter(|path| !path.starts_with("src/bin") && !path.starts_with("src/abi") && !path.ends_with("tests.rs"))
        .collect();
    let texts: Vec<(&Path, TokenStream)> = sources.iter().map(|path| (*path, shipped(&text(path)))).collect();
    let mut names = BTreeMap::new();
    for (_, tokens) in &texts {
        constants(tokens.clone(), &mut names);
    }
    let mut reads = Vec::new();
    for (path, tokens) in texts {
        let of_folder = if path.starts_with("src/client") {
            "vpn_client"
        } else if path.starts_with("src/server") {
            "srv_vpn"
        } else {
            ""
        };
        arguments(tokens, &mut |list| reads.extend(read(list, of_folder, &names)));
    }
    assert!(reads.len() > 30, "{reads:?}");
    reads
}

/// A file's tokens without its tests.
fn shipped(text: &str) -> TokenStream {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().parse().unwrap()
}

/// Calls `found` with each list of arguments.
fn arguments(tokens: TokenStream, found: &mut impl FnMut(&[TokenStream])) {
    for token in tokens {
        let TokenTree::Group(group) = token else { continue };
        if group.delimiter() == Delimiter::Parenthesis {
            found(&split(group.stream(), ','));
        }
        arguments(group.stream(), found);
    }
}

fn split(tokens: TokenStream, at: char) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(mark) if mark.as_char() == at => parts.push(TokenStream::new()),
            _ => parts.last_mut().unwrap().extend([token]),
        }
    }
    parts
}

/// Finds `const NAME: type = expression;` and `let name = expression;`.
fn constants(tokens: TokenStream, names: &mut BTreeMap<String, TokenStream>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => constants(group.stream(), names),
            TokenTree::Ident(word) if *word == "const" || *word == "let" => {
                let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { continue };
                let is_mark = |token: &TokenTree, mark| matches!(token, TokenTree::Punct(p) if p.as_char() == mark);
                let rest = tokens[at + 2..].iter().take_while(|token| !is_mark(token, ';'));
                let value = rest.skip_while(|token| !is_mark(token, '=')).skip(1).cloned().collect();
                names.insert(name.to_string(), value);
            }
            _ => {}
        }
    }
}

fn read(list: &[TokenStream], of_folder: &str, names: &BTreeMap<String, TokenStream>) -> Option<Read> {
    let texts: Vec<Option<String>> = list.iter().map(literal).collect();
    let place = texts.iter().position(|text| text.as_deref().is_some_and(is_key))?;
    // "server", "max_streams", 0
    let two = texts.get(place + 1).and_then(Option::as_ref).filter(|text| is_key(text));
    let (section, key, behind) = match two {
        Some(key) => (texts[place].clone()?, key.clone(), place + 2),
        None => {
            // A constant in front may name the section: it is the folder's. `within(config, ..)` reads [server].
            let is_server = of_folder.is_empty() && place == 1 && list[0].to_string() == "config";
            let section = if is_server { "server" } else { of_folder };
            (section.to_owned(), texts[place].clone()?, place + 1)
        }
    };
    let rest: Vec<Expr> = list[behind..].iter().filter_map(|tokens| syn::parse2(tokens.clone()).ok()).collect();
    let bounds = rest.iter().find_map(|expression| range(expression, names));
    let default = rest.iter().find_map(|expression| value(expression, names, 0));
    // A list of other arguments that has text in it is no read.
    let is_read = !section.is_empty() && rest.len() <= 2 && (bounds.is_some() || default.is_some());
    is_read.then_some(Read { section, key, bounds, default })
}

fn literal(tokens: &TokenStream) -> Option<String> {
    match syn::parse2::<Lit>(tokens.clone()) {
        Ok(Lit::Str(text)) => Some(text.value()),
        _ => None,
    }
}

fn is_key(text: &str) -> bool {
    text.len() > 1 && text.chars().all(|letter| letter.is_ascii_lowercase() || "_-".contains(letter))
}

fn range(expression: &Expr, names: &BTreeMap<String, TokenStream>) -> Option<(i128, i128)> {
    let Expr::Range(range) = expression else { return None };
    let RangeLimits::Closed(_) = range.limits else { return None };
    let end = |end: &Option<Box<Expr>>| match value(end.as_ref()?, names, 0)? {
        Value::Number(number) => Some(number),
        Value::Flag(_) => None,
    };
    Some((end(&range.start)?, end(&range.end)?))
}

/// Computes an expression of literals and names.
fn value(expression: &Expr, names: &BTreeMap<String, TokenStream>, depth: usize) -> Option<Value> {
    if depth > 8 {
        return None;
    }
    let of = |expression: &Expr| value(expression, names, depth + 1);
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
            Lit::Bool(flag) => Some(Value::Flag(flag.value)),
            _ => None,
        },
        Expr::Paren(inner) => of(&inner.expr),
        Expr::Cast(inner) => of(&inner.expr),
        Expr::Unary(inner) => match (inner.op, of(&inner.expr)?) {
            (UnOp::Not(_), Value::Flag(flag)) => Some(Value::Flag(!flag)),
            _ => None,
        },
        // The whole library on the embedded SDK.
        Expr::Macro(call) if call.mac.path.is_ident("cfg") => {
            Some(Value::Flag(!call.mac.tokens.to_string().contains("\"sdk\"")))
        }
        Expr::Binary(both) => {
            let (Value::Number(left), Value::Number(right)) = (of(&both.left)?, of(&both.right)?) else { return None };
            Some(Value::Number(match both.op {
                BinOp::Add(_) => left + right,
                BinOp::Sub(_) => left - right,
                BinOp::Mul(_) => left * right,
                BinOp::Shl(_) => left << right,
                _ => return None,
            }))
        }
        Expr::If(choice) => match (of(&choice.cond)?, &choice.else_branch) {
            (Value::Flag(true), _) => of(only(&choice.then_branch)?),
            (Value::Flag(false), Some((_, otherwise))) => match &**otherwise {
                Expr::Block(block) => of(only(&block.block)?),
                other => of(other),
            },
            _ => None,
        },
        // Conversions, and durations in seconds.
        Expr::Call(call) if call.args.len() == 1 => {
            let Expr::Path(function) = &*call.func else { return None };
            let name = function.path.segments.last()?.ident.to_string();
            if ["from", "from_secs"].contains(&&*name) { of(&call.args[0]) } else { None }
        }
        Expr::MethodCall(call) if ["into", "as_secs"].iter().any(|name| call.method == name) => of(&call.receiver),
        Expr::Path(path) => {
            let tokens = names.get(&path.path.segments.last()?.ident.to_string())?;
            value(&syn::parse2(tokens.clone()).ok()?, names, depth + 1)
        }
        _ => None,
    }
}

/// The expression that a block consists of.
fn only(block: &syn::Block) -> Option<&Expr> {
    match block.stmts.as_slice() {
        [syn::Stmt::Expr(expression, None)] => Some(expression),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (String, String, Option<(i128, i128)>, Option<Value>);

    fn read_of(text: &str, of_folder: &str) -> Option<Found> {
        let mut names = BTreeMap::new();
        constants(
            "const MOST: u16 = 1 << 4; const LIFE: Duration = Duration::from_secs(60);".parse().unwrap(),
            &mut names,
        );
        let mut found = None;
        arguments(text.parse().unwrap(), &mut |list| found = found.take().or_else(|| read(list, of_folder, &names)));
        found.map(|read| (read.section, read.key, read.bounds, read.default))
    }

    #[test]
    fn reads_are_found() {
        let number = |section: &str, key: &str, bounds, default| {
            Some((section.to_owned(), key.to_owned(), bounds, Some(Value::Number(default))))
        };
        assert_eq!(
            read_of("seconds(\"keep_alive\", 1..=3600, 20)", "srv_vpn"),
            number("srv_vpn", "keep_alive", Some((1, 3600)), 20)
        );
        assert_eq!(read_of("c.get_u64(\"server\", \"max_streams\", 0)", ""), number("server", "max_streams", None, 0));
        let text = "c.number_in(SECTION, \"x_y\", 0..=MOST, i64::from(2 * (3 + 1)))";
        assert_eq!(read_of(text, "vpn_client"), number("vpn_client", "x_y", Some((0, 16)), 8));
        assert_eq!(
            read_of("within(config, \"idle\", LIFE.as_secs(), 1..=9)", ""),
            number("server", "idle", Some((1, 9)), 60)
        );
        let flag = Some(("srv_vpn".to_owned(), "gate".to_owned(), None, Some(Value::Flag(false))));
        assert_eq!(read_of("c.checked_flag(SECTION, \"gate\", !cfg!(feature = \"embedded\"))?", "srv_vpn"), flag);
        assert_eq!(read_of("log(\"gate\", text)", "srv_vpn"), None);
    }
}
