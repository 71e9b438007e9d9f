# What is done often; each works without just as well.

# The program, and all that it needs to compute
build:
    cargo build --release

# Every test
test:
    cargo test

# Formatting, lints and documentation
lint:
    cargo fmt --all --check
    cargo clippy --all-targets --workspace --locked -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --locked --no-deps --document-private-items

# Man pages and completions anew
generated:
    UPDATE=1 cargo test --bin mlxr generated

# All that must hold before a change goes in
ci:
    .ci/run

# The archive of a release, in target/dist
dist *arguments:
    .ci/dist {{arguments}}
