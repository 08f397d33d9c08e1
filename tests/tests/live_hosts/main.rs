//! Nodes and escli on real Linux hosts of their own (`tests/lab/lab.sh`), each with an address, a disk and a
//! systemd.

mod change;
mod check_fix;
mod crash_loop;
mod deploy;
mod documented;
mod restart;
mod user_services;
