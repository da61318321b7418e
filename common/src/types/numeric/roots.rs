//! Roots, logarithms and powers of numerics.
