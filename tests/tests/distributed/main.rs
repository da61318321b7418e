//! Queries over several workers, with fragments and batches going through their real encodings, beside PostgreSQL's answers.

mod cluster;
mod costs;
mod plans;
mod script;
