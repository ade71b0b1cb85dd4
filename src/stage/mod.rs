//! The plan frozen, the child that applies it, the parent that supervises.

pub mod barrier;
pub mod child;
pub mod filter_cache;
pub mod freeze;
pub mod host_hooks;
mod netdev;
pub mod parent;
mod report;
pub mod root;
mod rtnetlink;
pub mod seal;
mod trees;
pub mod wire;

pub use freeze::{Filter, Frozen, Supplies, freeze};
pub use parent::{Around, Created, Mapped, Requests, Spawned, Started, spawn};
pub use report::sentence;
