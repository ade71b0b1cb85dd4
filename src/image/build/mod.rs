//! `dhowctl build`: a Dockerfile to an image.
//!
//! The front half is pure: `parse` reads the text, `outline` says which stages are needed, and `stage` plans one of them
//! (`plan` is the data) once the config of its base is known. The back half executes what the plan says.

mod add;
pub mod cache;
mod commit;
mod copy;
mod diff;
mod execute;
pub mod expand;
mod files;
mod lines;
mod mistake;
mod mounts;
mod output;
mod outline;
pub mod parse;
pub mod plan;
pub mod request;
mod run;
mod select;
pub mod solve;
mod stage;
mod step;
mod syntax;
mod tar;
mod tip;
mod words;

// What the back half calls (parse.rs, outline.rs, stage.rs, coming):
//   parse::Dockerfile::parse(name: &str, text: &str) -> Result<Dockerfile>     the name is for messages
//   outline::outline(&Dockerfile, &plan::Inputs) -> Result<plan::Outline>
//   stage::plan_stage(&Dockerfile, &plan::Inputs, index: usize, plan::State) -> Result<plan::StagePlan>
//       the State is State::scratch(), State::of_image(&config), or the `end` of the base stage's plan
//   Dockerfile::excerpt(&plan::Source) -> String                               the lines, numbered and marked
//   ignore::Patterns::parse(text) and .matches(path)                           .dockerignore, --exclude
//   chmod::Symbolic                                                            --chmod=u=rwX applied to a mode

use execute::{exclude_of, ignore_of, symbolic};
pub use execute::build;
pub use solve::{Around, Stopper};
