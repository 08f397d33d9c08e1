//! escli's SSH transport against real SSH servers on loopback addresses.

mod client_port;
mod login;
mod route;
mod transport;
