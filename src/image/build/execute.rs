//! The whole of a build: read, plan, solve, commit.

use super::plan::{Inputs, State};
use super::request::{BuildRequest, Progress};
use super::select::{Exclude, Verdict};
use super::solve::{self, Around, Build, Front, Stopper};
use super::commit;
use crate::image::store::Image;
use crate::{Error, Result};
use std::path::Path;

/// Whether a path of a tree is left out.
pub(super) type Ignore = Box<dyn Fn(&[u8]) -> Verdict + Send + Sync>;
