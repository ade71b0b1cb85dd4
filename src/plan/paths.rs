//! Paths as text. Nothing here looks at a file system: what a path resolves to is the child's business.

use std::path::{Path, PathBuf};

/// `path` as an absolute path without `.`, `..`, and doubled slashes; a relative one is taken below `/`, and `..` does
/// not climb above it.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            name => out.push(name),
        }
    }
    out
}

/// `path`, below `base` if it is relative (config.md: relative to the bundle).
pub(super) fn below(base: &Path, path: &str) -> PathBuf {
    if path.starts_with('/') {
        return clean(path);
    }
    clean(&format!("{}/{path}", base.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_text() {
        for (path, want) in [("", "/"), ("dev//pts/", "/dev/pts"), ("/a/../../b/./c", "/b/c"), ("/..", "/")] {
            assert_eq!(clean(path), Path::new(want), "{path}");
        }
        assert_eq!(below(Path::new("/run/b"), "../x"), Path::new("/run/x"));
        assert_eq!(below(Path::new("/run/b"), "/x//y"), Path::new("/x/y"));
    }
}
