//! Turns mlx-c's headers into `bindings.rs`: types as bindgen writes them, functions as entries of
//! the `dynamic_api!` table, so that each is resolved from a shared library at run time.
//!
//! Arguments: the folder of mlx-c, then the clang arguments.

use std::fmt::Write as _;

use quote::{ToTokens, quote};
use syn::{ForeignItem, ForeignItemFn, Item, ItemForeignMod};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments
        .next()
        .ok_or("usage: mlx-sys-generate MLX_C_FOLDER [CLANG_ARGUMENT …]")?;
    let source = bindgen::Builder::default()
        .header(format!("{root}/mlx/c/mlx.h"))
        .header(format!("{root}/mlx/c/graph_utils.h"))
        .clang_arg(format!("-I{root}"))
        .clang_args(arguments)
        .allowlist_item("_?mlx_.*")
        // defined by hand in lib.rs: mlx-rs names them on every platform
        .blocklist_type("b?float16_t")
        // C variadic: cannot be forwarded, and nothing here calls it
        .blocklist_function("_mlx_error")
        // a static in the header, one copy per translation unit
        .blocklist_item("mlx_array_empty")
        // the C library's own, and unlike on each platform
        .opaque_type("_IO_FILE")
        .layout_tests(false)
        .rust_target("1.85.0".parse()?)
        .generate()?
        .to_string();
    let mut types = Vec::new();
    let mut functions = Vec::new();
    for item in syn::parse_file(&source)?.items {
        match item {
            Item::ForeignMod(ItemForeignMod { items, .. }) => functions.extend(items),
            other => types.push(other),
        }
    }
    let file = syn::File {
        shebang: None,
        attrs: Vec::new(),
        items: types,
    };
    let mut out = String::from(
        "// Written by vendor/mlx-sys/update-bindings from the headers of mlx-c. Do not edit.\n\n",
    );
    out.push_str(&prettyplease::unparse(&file));
    out.push_str("\ndynamic_api! {\n");
    for item in functions {
        let ForeignItem::Fn(ForeignItemFn { sig, .. }) = item else {
            return Err(format!("not a function: {}", item.to_token_stream()).into());
        };
        if sig.variadic.is_some() {
            return Err(format!("{} is variadic", sig.ident).into());
        }
        let (name, inputs, output) = (&sig.ident, &sig.inputs, &sig.output);
        writeln!(
            out,
            "    {};",
            tidy(&quote!(fn #name(#inputs) #output).to_string())
        )?;
    }
    out.push_str("}\n");
    print!("{out}");
    Ok(())
}

/// Takes the spaces of a token stream back out where people do not write them.
fn tidy(tokens: &str) -> String {
    let pairs = [
        (" :: std :: os :: raw :: ", " std::os::raw::"),
        (" :: std :: option :: ", " std::option::"),
        ("* mut ", "*mut "),
        ("* const ", "*const "),
        (" : ", ": "),
        (" , ", ", "),
        (" ,)", ")"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" < ", "<"),
        (" > ", ">"),
    ];
    pairs
        .iter()
        .fold(tokens.to_owned(), |text, (from, to)| text.replace(from, to))
}
