//! Paths in the image, as text.

/// Without `.`, `..` and doubled slashes, as Go's path.Clean: "" is `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// `path` below `dir` if it is relative; clean, and nothing is above `/`.
pub fn absolute(dir: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{dir}/{path}")) }
}

/// A COPY's destination: a slash at its end, or that it is `.`, says that it is a directory.
pub fn destination(dir: &str, path: &str) -> String {
    let out = absolute(dir, path);
    let is_dir = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    if is_dir && out != "/" { out + "/" } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [("", "."), ("/", "/"), ("//a/./b//../c/", "/a/c"), ("../a", "../a"), ("a/../..", ".."), ("/..", "/"), ("./a", "a")] {
            assert_eq!(clean(path), expected, "{path}");
        }
        for (path, expected) in [("/a/", "/a/"), (".", "/w/"), ("", "/w/"), ("./", "/w/"), ("a", "/w/a"), ("../b/.", "/b/"), ("/", "/"), ("../..", "/")] {
            assert_eq!(destination("/w", path), expected, "{path}");
        }
        assert_eq!(absolute("/", "../../etc"), "/etc");
    }
}
