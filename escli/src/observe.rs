//! Hosts and admin API -> [`Facts`]: every node at once, each with its own time limit. Decides nothing.
