//! What a Rust file names, as its syntax tells; knows no rule.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, UseTree};

/// One parsed file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Paths that are named outside tests, from the root of the crate: `crate::hub::cache`,
    /// `std::env::var`; and `unsafe`, wherever it stands.
    pub(crate) names: BTreeSet<String>,
    /// Stems of the files that are there for tests alone: `src/engine/fake`.
    pub(crate) tests: Vec<String>,
    /// The stem of this file, then the modules around what is being read.
    module: Vec<String>,
}

/// A path without what says that it is Rust: `src/hub` for `src/hub.rs` and for `src/hub/mod.rs`.
pub(crate) fn stem(path: &str) -> &str {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let roots = ["/mod", "/lib", "/main"];
    roots
        .iter()
        .find_map(|root| path.strip_suffix(root))
        .unwrap_or(path)
}

/// Whether `path` is the file of the module that `stem` means, or one below it.
pub(crate) fn is_in(path: &str, stem: &str) -> bool {
    path.strip_prefix(stem)
        .is_some_and(|rest| matches!(rest, "" | ".rs") || rest.starts_with('/'))
}

impl Source {
    /// Reads the file at `path`; the message of the parser where it is no Rust.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, String> {
        let file = syn::parse_file(text).map_err(|error| error.to_string())?;
        let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        let module = stem(path).split('/').map(str::to_owned).collect();
        let mut source = Self {
            module,
            ..Self::default()
        };
        source.visit_file(&file);
        if has_unsafe(tokens) {
            source.names.insert("unsafe".to_owned());
        }
        Ok(source)
    }

    /// Notes a path as it is written.
    fn name(&mut self, path: &[String]) {
        let supers = path.iter().take_while(|word| *word == "super").count();
        let root = match path[0].as_str() {
            // The first word of a stem is the folder, which stands for the crate.
            "super" => &self.module[1..self.module.len().saturating_sub(supers).max(1)],
            "self" => &self.module[1..],
            _ => return self.note(path.join("::")),
        };
        let rest = &path[supers.max(1)..];
        let words = std::iter::once("crate").chain(root.iter().chain(rest).map(String::as_str));
        let name = words.collect::<Vec<_>>().join("::");
        self.note(name);
    }

    fn note(&mut self, name: String) {
        self.names.insert(name);
    }

    fn name_tree(&mut self, start: &[String], tree: &UseTree) {
        let with = |word: String| [start, &[word]].concat();
        match tree {
            UseTree::Path(path) => self.name_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.name(&with(name.ident.to_string())),
            UseTree::Rename(rename) => self.name(&with(rename.ident.to_string())),
            UseTree::Glob(_) => self.name(&with("*".to_owned())),
            UseTree::Group(group) => {
                group
                    .items
                    .iter()
                    .for_each(|tree| self.name_tree(start, tree));
            }
        }
    }

    /// Notes the paths in what a macro or an attribute is given.
    fn name_tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 && !path.is_empty() {
                        self.name(&std::mem::take(&mut path));
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    if !path.is_empty() {
                        self.name(&std::mem::take(&mut path));
                    }
                    if let TokenTree::Group(group) = other {
                        self.name_tokens(group.stream());
                    }
                }
            }
        }
        if !path.is_empty() {
            self.name(&path);
        }
    }
}

/// Declares visitors that pass over what is compiled for tests alone.
macro_rules! pass_over_tests {
    ($($visit:ident: $node:ident),*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_test(&node.attrs) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Source {
    pass_over_tests!(
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_item_macro: ItemMacro,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_impl_item_fn: ImplItemFn
    );

    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            // Syntax that the parser does not know.
            syn::Item::Verbatim(tokens) => self.name_tokens(tokens.clone()),
            item => visit::visit_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        } else if module.content.is_none() {
            self.tests.push(self.module.join("/"));
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.name_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.name(&words.collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.name_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.visit_path(&list.path);
            self.name_tokens(list.tokens.clone());
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::Path(_) | syn::Meta::NameValue(_) => false,
    })
}

fn has_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "unsafe",
        TokenTree::Group(group) => has_unsafe(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, is_in, stem};

    fn names(path: &str, text: &str) -> Vec<String> {
        Source::parse(path, text)
            .unwrap()
            .names
            .into_iter()
            .collect()
    }

    #[test]
    fn paths_are_followed_to_the_root() {
        let text =
            "use {self::a, super::b::{self, c as d}, super::super::e::*}; use ::std::{env, fs};";
        let all = [
            "crate::e::*",
            "crate::x::b::c",
            "crate::x::b::self",
            "crate::x::y::a",
        ];
        let found = names("src/x/y.rs", text);
        assert_eq!(found, [all.as_slice(), &["std::env", "std::fs"]].concat());
        assert_eq!(names("src/x/mod.rs", "use super::b;"), ["crate::b"]);
        assert_eq!(
            names("src/x.rs", "mod y { use super::super::b; }"),
            ["crate::b"]
        );
        assert_eq!(names("src/lib.rs", "use self::b;"), ["crate::b"]);
    }

    #[test]
    fn types_calls_macros_and_attributes_name_too() {
        for text in [
            "fn f() -> Vec<crate::a::B> {}",
            "fn f() { crate::a::B::new() }",
            "fn f() { println!(\"{}\", (1, crate::a::B)) }",
            "impl From<crate::a::B> for X {}",
            "#[derive(crate::a::B)] struct X;",
            "macro_rules! m { () => { $crate::a::B } }",
        ] {
            let found = names("src/x.rs", text);
            assert!(
                found.iter().any(|name| name.starts_with("crate::a::B")),
                "{text}: {found:?}"
            );
        }
        assert_eq!(
            names("src/x.rs", "//! [`crate::a`]\n/// [`crate::b`]\nstruct X;"),
            ["X"; 0]
        );
    }

    #[test]
    fn tests_are_passed_over_but_not_what_is_unsafe_in_them() {
        let text = "#[cfg(test)] mod tests { use crate::a; fn f() { unsafe {} } }
            #[cfg(test)] use crate::b;
            impl X { #[cfg(test)] fn f() { crate::c() } }
            #[cfg(test)] mod fake;";
        let source = Source::parse("src/x/mod.rs", text).unwrap();
        assert_eq!(
            source.names.into_iter().collect::<Vec<_>>(),
            ["X", "unsafe"]
        );
        assert_eq!(source.tests, ["src/x/fake"]);
    }

    #[test]
    fn a_stem_stands_for_a_file_and_all_below() {
        assert_eq!(
            [stem("src/x.rs"), stem("src/x/mod.rs"), stem("src/lib.rs")],
            ["src/x", "src/x", "src"]
        );
        assert!(
            is_in("src/x.rs", "src/x")
                && is_in("src/x/y.rs", "src/x")
                && is_in("src/lib.rs", "src/lib.rs")
        );
        assert!(!is_in("src/xy.rs", "src/x") && !is_in("src/y.rs", "src/x"));
    }
}
