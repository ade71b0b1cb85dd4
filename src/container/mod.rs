//! The store of containers, their locks and states, and the lifecycle: one function a verb.

mod request;
pub use request::*;
