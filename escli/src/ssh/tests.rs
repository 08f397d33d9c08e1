//! Tests of the parts that decide.
