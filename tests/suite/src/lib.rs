//! Tests of the tree itself, in `tests/`: what the compiler cannot see.
//!
//! **For:** rules that hold between crates and between files.
//! **May use:** every crate.
//! **Must hold:** a rule that is broken is named with its file and line.
