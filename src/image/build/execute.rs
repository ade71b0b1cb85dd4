//! The whole of a build: read, plan, solve, commit.

use super::commit;
use super::plan::{Inputs, State};
use super::request::BuildRequest;
use super::select::{Exclude, Verdict};
use super::solve::{self, Around, Build, Front, Stopper};
use crate::Result;
use crate::image::store::Image;
use std::path::Path;

/// Whether a path of a tree is left out.
pub(super) type Ignore = Box<dyn Fn(&[u8]) -> Verdict + Send + Sync>;

pub fn build(_request: &BuildRequest, _around: &Around, _stopper: &Stopper) -> Result<Image> {
    todo!()
}
pub(super) fn ignore_of(_dir: &Path) -> Result<Ignore> {
    Ok(Box::new(|_| Verdict::Keep))
}
pub(super) fn exclude_of(_patterns: &[String]) -> Result<Box<Exclude<'static>>> {
    Ok(Box::new(|_| Verdict::Keep))
}
pub(super) fn symbolic(_text: &str) -> Result<Box<dyn Fn(u32, bool) -> u32>> {
    todo!()
}
