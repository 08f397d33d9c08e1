//! escli's SSH transport against real SSH servers on loopback addresses.

mod login;
mod route;
mod transport;
