//! The plan frozen, the child that applies it, the parent that supervises.

pub mod child;
pub mod freeze;
pub mod root;
pub mod wire;
