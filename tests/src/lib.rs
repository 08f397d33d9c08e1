//! The harness behind the suites: everything they need to run the product where it can be hurt.

pub mod sim;
