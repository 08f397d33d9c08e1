//! What is committed: the rules that the source keeps, and the files that are generated from it.

mod generated;
mod rules;
