//! The plan frozen, the child that applies it, the parent that supervises.

pub mod child;
pub mod freeze;
pub mod host_hooks;
mod idmap;
mod netdev;
mod rtnetlink;
pub mod parent;
mod report;
pub mod filter_cache;
pub mod root;
pub mod seal;
mod trees;
pub mod wire;

pub use freeze::{Filter, Frozen, Supplies, freeze};
pub use report::sentence;
pub use parent::{Around, Created, Mapped, Requests, Spawned, Started, spawn};
