//! The admin API over HTTP (default port 8080).
