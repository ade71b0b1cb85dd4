use crate::{Result, seccomp, spec};
use std::path::Path;
pub fn load_or_compile(_dir: &Path, profile: &spec::Seccomp, native: seccomp::Arch) -> Result<seccomp::Compiled> {
    seccomp::compile(profile, native)
}
