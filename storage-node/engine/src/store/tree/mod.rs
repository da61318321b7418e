//! An ordered copy-on-write tree from memcomparable keys to row positions.
