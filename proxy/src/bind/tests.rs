//! Golden tests: statements and what they are bound to, or the error.
