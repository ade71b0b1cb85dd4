//! `dhowctl build`: a Dockerfile to an image.
//!
//! `dockerfile` is pure: text → instructions → a `plan`, which is data. `execute` does what the plan says, for a
//! `request`, and finds in the cache what need not be done again.

pub mod dockerfile;
pub mod execute;
pub mod plan;
pub mod request;

pub use execute::{Around, Stopper, build};
