//! What real nodes keep on their disks: full, failing and damaged disks, power cuts, snapshots, retention,
//! backups.

mod backup;
mod catch_up;
mod disk;
mod packs;
mod power_cut;
mod retention;
mod snapshots;
mod verify;
