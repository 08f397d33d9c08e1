//! escli against real nodes of this machine, run as local processes or reached through real SSH servers.

mod add_remove_nodes;
mod check_fix;
mod events;
mod groups;
mod health;
mod identity;
mod monitoring;
mod over_ssh;
mod recover;
mod restart;
mod resume;
mod support_bundle;
mod topics;
mod transactions;
mod up_down;
mod upgrade;
