//! `dhowctl build`: a Dockerfile to an image.
//!
//! The front half is pure: `parse` reads the text, `outline` says which stages are needed, and `stage` plans one of them
//! (`plan` is the data) once the config of its base is known. The back half executes what the plan says.

pub mod args;
pub mod chmod;
pub mod expand;
mod git;
pub mod ignore;
mod lines;
mod mistake;
mod mount;
pub mod outline;
pub mod parse;
mod path;
pub mod plan;
pub mod request;
pub mod stage;
mod syntax;
mod values;
mod words;

// The back half.
mod add;
pub mod cache;
mod commit;
mod copy;
mod diff;
mod execute;
mod files;
mod mounts;
mod output;
mod run;
mod select;
pub mod solve;
mod step;
mod tar;
mod tip;

pub use execute::build;
use execute::{exclude_of, ignore_of, symbolic};
pub use solve::{Around, Stopper};
