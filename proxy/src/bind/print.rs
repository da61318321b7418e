//! Bound statements as compact text: for EXPLAIN and for golden tests.
