//! Reads the modules of a crate, and their references, from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree};

/// A module's path inside its crate; empty for the root.
pub(crate) type Module = Vec<String>;

/// The modules of one crate without its tests, and the paths to which each refers.
pub(crate) struct Crate {
    /// The references of each module: absolute paths that start with a module of this crate, or with `::` and another
    /// crate.
    references: BTreeMap<Module, BTreeSet<Vec<String>>>,
}

/// A reference from one module to another of the same crate, or to another crate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Target {
    /// A module of the same crate.
    Module(Module),
    /// The first segment of a path into another crate.
    Crate(String),
}

impl Crate {
    /// Reads the crate with this root file, and follows its `mod` declarations.
    pub(crate) fn read(root: &Path) -> Crate {
        let mut reader = Reader { krate: Crate { references: BTreeMap::new() } };
        let folder = root.parent().expect("a source file is in a folder");
        reader.file(Vec::new(), root, folder);
        reader.krate
    }

    /// Returns the modules directly below the root.
    pub(crate) fn top_level(&self) -> BTreeSet<&str> {
        self.references.keys().filter(|module| module.len() == 1).map(|module| module[0].as_str()).collect()
    }

    /// Returns every reference from one module to another, or to another crate.
    pub(crate) fn references(&self) -> impl Iterator<Item = (&Module, Target)> {
        self.references.iter().flat_map(move |(from, paths)| paths.iter().map(move |path| (from, self.resolve(path))))
    }

    /// Returns the deepest module on a path.
    fn resolve(&self, path: &[String]) -> Target {
        if let Some((first, rest)) = path.split_first()
            && first == "::"
        {
            return Target::Crate(rest.first().cloned().unwrap_or_default());
        }
        let depth = (0..=path.len()).rev().find(|depth| self.references.contains_key(&path[..*depth]));
        Target::Module(path[..depth.unwrap_or(0)].to_vec())
    }
}

struct Reader {
    krate: Crate,
}

impl Reader {
    /// `folder` has the files of the module's children.
    fn file(&mut self, module: Module, file: &Path, folder: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.items(module, &parsed.items, folder);
    }

    fn items(&mut self, module: Module, items: &[Item], folder: &Path) {
        let children: BTreeSet<String> = items.iter().filter_map(module_name).collect();
        let mut paths = BTreeSet::new();
        for item in items.iter().filter(|item| !is_for_tests(item)) {
            match item {
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let (path, below) = ([module.as_slice(), std::slice::from_ref(&name)].concat(), folder.join(&name));
                    match &child.content {
                        Some((_, items)) => self.items(path, items, &below),
                        None => match path_attribute(&child.attrs) {
                            Some(elsewhere) => {
                                let file = folder.join(elsewhere);
                                self.file(path, &file, file.parent().expect("a file is in a folder"));
                            }
                            None => self.file(path, &source_of(folder, &name), &below),
                        },
                    }
                }
                Item::Use(item) => used(&item.tree, &mut Vec::new(), &mut |path| {
                    paths.extend(absolute(&module, path, &children));
                }),
                other => inline_paths(other.to_token_stream(), &mut |path| {
                    paths.extend(absolute(&module, path, &children));
                }),
            }
        }
        self.krate.references.insert(module, paths);
    }
}

fn module_name(item: &Item) -> Option<String> {
    if let Item::Mod(module) = item { Some(module.ident.to_string()) } else { None }
}

/// Returns the file of `#[path = "file"]`; as for rustc, a module's children are beside that file.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }),
            ..
        }) => Some(file.value()),
        _ => None,
    }
}

fn source_of(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.rs"));
    if file.exists() { file } else { folder.join(name).join("mod.rs") }
}

/// Whether an item is `#[cfg(test)]`: tests may use every module.
fn is_for_tests(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("(test)")
    })
}

/// The paths of a `use`, one for each imported name.
fn used(tree: &UseTree, prefix: &mut Vec<String>, found: &mut impl FnMut(&[String])) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            used(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Name(name) => found(&[prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => found(&[prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Glob(_) => found(prefix),
        UseTree::Group(group) => group.items.iter().for_each(|tree| used(tree, prefix, found)),
    }
}

/// The paths in other code, including the arguments of macros, which have no syntax tree.
fn inline_paths(tokens: TokenStream, found: &mut impl FnMut(&[String])) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    finish(&mut path, found);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() && colons < 2 => colons += 1,
            TokenTree::Group(group) => {
                finish(&mut path, found);
                colons = 0;
                inline_paths(group.stream(), found);
            }
            _ => {
                finish(&mut path, found);
                colons = 0;
            }
        }
    }
    finish(&mut path, found);
}

fn finish(path: &mut Vec<String>, found: &mut impl FnMut(&[String])) {
    if path.len() > 1 {
        found(path);
    }
    path.clear();
}

/// Returns a path from the crate's root; it starts with `::` if its first segment is not in this crate.
fn absolute(module: &[String], path: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let (parent, rest) = (module.split_last()?.1, rest);
            if rest.first().is_some_and(|next| next == "super") {
                return absolute(parent, rest, children);
            }
            Some([parent, rest].concat())
        }
        child if children.contains(child) => Some([module, path].concat()),
        _ => Some([&["::".to_owned()], path].concat()),
    }
}
