//! The `toroid` command.
fn main() {}
