//! From the text of a Dockerfile to a plan. Nothing here touches the machine.
//!
//! `parse` reads the text, `outline` says which stages are needed, and `stage` plans one of them once the config of its
//! base is known. docs/dockerfile.md has the steps between.

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
pub mod stage;
pub mod syntax;
mod values;
mod words;
