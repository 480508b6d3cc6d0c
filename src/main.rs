//! The `mapkeeper` command.

fn main() {}
