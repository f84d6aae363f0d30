//! Owns the way from the command line to a command, and the exit status; nothing else.

fn main() {}
