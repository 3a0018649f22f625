//! Reads the declarations of `src/sdk/raw.rs` as plain words: each item's name in C, and whether a header has it.

use std::collections::BTreeSet;

/// Returns a source's declared items: the Rust name and the C name of each.
pub(crate) fn items(source: &str) -> Vec<(&str, String)> {
    let types = declared(source, "struct").chain(declared(source, "type"));
    let types = types.map(|name| (name, format!("vpn_glue_{}_t", snake_case(name))));
    let constants = declared(source, "const").map(|name| (name, format!("VPN_GLUE_{name}")));
    let functions = declared(source, "fn").map(|name| (name, name.to_owned()));
    types.chain(constants).chain(functions).collect()
}

/// Checks that a header has every item that the source declares. cbindgen silently drops items that it does not
/// understand, such as a `safe fn`, and constants that are not public.
pub(crate) fn check(source: &str, header: &str) -> Result<(), String> {
    let in_header: BTreeSet<&str> = words(header).collect();
    match items(source).into_iter().find(|(_, in_c)| !in_header.contains(in_c.as_str())) {
        Some((name, _)) => Err(format!(
            "src/sdk/raw.rs: cbindgen cannot read the declaration of {name}; expected a `fn` without `safe` in an \
             `unsafe extern \"C\"` block, a `#[repr(C)]` struct, a type, or a `pub const`"
        )),
        None => Ok(()),
    }
}

/// Returns the names that a source declares with a keyword, each at the start of a line.
fn declared<'a>(source: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> {
    code(source).filter_map(move |line| {
        let (before, after) = line.split_once(keyword)?;
        let qualifiers = ["pub", "super", "crate", "safe", "unsafe"];
        let starts = !before.contains('*') && words(before).all(|word| qualifiers.contains(&word));
        (starts && after.starts_with(' ')).then(|| words(after).next())?
    })
}

/// Returns a source's lines, without comments.
pub(crate) fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(|line| line.split("//").next().unwrap_or(""))
}

/// Returns the words of a text: names, keywords, numbers.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
