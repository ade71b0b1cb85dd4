//! Sources of ADD that are git repositories: which addresses are, and what they say behind `#` and `?`.

use super::mount::boolean;
use super::path;
use crate::image::build::plan::Git;

/// What an address says; `None` where it says nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Address {
    pub git: Git,
    pub keep_git_dir: Option<bool>,
}

/// None: it is no git repository but a path or a file on the web.
pub fn parse(text: &str) -> Option<Result<Address, String>> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    let (whole, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = whole.split_once('?').unwrap_or((whole, ""));
    let is_git = match remote.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => rest.contains('/') && rest.ends_with(".git"),
            "git" | "ssh" => true,
            _ => false,
        },
        None => is_scp(remote),
    };
    is_git.then(|| address(remote, query, fragment))
}

/// `user@host:path`.
fn is_scp(remote: &str) -> bool {
    let Some((user, rest)) = remote.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    word(user) && word(host) && !path.is_empty()
}

fn address(remote: &str, query: &str, fragment: &str) -> Result<Address, String> {
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let git = Git { remote: remote.into(), reference: reference.into(), subdir: inside(subdir), submodules: true, ..Git::default() };
    let mut out = Address { git, keep_git_dir: None };
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        out.take(key, value)?;
    }
    // It becomes a word of git's command line.
    if [&out.git.reference, &out.git.checksum, &out.git.remote].into_iter().any(|text| text.starts_with('-')) {
        return Err(format!("{remote}: neither the address nor what to take may begin with a dash"));
    }
    if !out.git.checksum.is_empty() && !out.git.checksum.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(format!("the commit {:?} is no hexadecimal number", out.git.checksum));
    }
    Ok(out)
}

/// Clean, and not above the repository's top.
fn inside(dir: &str) -> String {
    path::absolute("/", dir)[1..].to_string()
}

impl Address {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let truth = || if value.is_empty() { Ok(true) } else { boolean(value).ok_or_else(|| format!("{key} is {value:?}: true or false is needed")) };
        let git = &mut self.git;
        let conflict = |field: &str, value: &str| {
            if field.is_empty() || field == value { Ok(value.to_string()) } else { Err(format!("both {field:?} and {value:?} are asked for")) }
        };
        let prefixed = |prefix: &str| if value.starts_with(prefix) { value.to_string() } else { format!("{prefix}{value}") };
        match key {
            "keep-git-dir" => self.keep_git_dir = Some(truth()?),
            "submodules" => git.submodules = truth()?,
            _ if value.is_empty() => return Err(format!("{key} has no value")),
            "ref" => git.reference = conflict(&git.reference, value)?,
            "tag" => git.reference = conflict(&git.reference, &prefixed("refs/tags/"))?,
            "branch" => git.reference = conflict(&git.reference, &prefixed("refs/heads/"))?,
            "subdir" => git.subdir = conflict(&git.subdir, &inside(value))?,
            "checksum" | "commit" => git.checksum = value.into(),
            _ => {
                return Err(format!(
                    "{key:?} is unknown behind a git address's ?: there are ref, tag, branch, subdir, checksum, commit, keep-git-dir, submodules"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> Git {
        parse(text).unwrap().unwrap().git
    }

    #[test]
    fn which_addresses_are_git() {
        for yes in [
            "https://github.com/a/b.git",
            "http://h/a.git#v1",
            "git://h/a",
            "ssh://git@h/a",
            "git@github.com:a/b.git",
            "git@h:a#main:sub",
            "https://h/a.git?ref=x",
        ] {
            assert!(parse(yes).is_some(), "{yes}");
        }
        for no in ["https://h/a.tar.gz", "https://h/a", "./a.git", "../a@b:c", "a.git", "github.com/a/b", "/a/b.git", "ftp://h/a.git", "a@b/c:d"] {
            assert!(parse(no).is_none(), "{no}");
        }
    }

    #[test]
    fn what_they_say() {
        let base = Git { remote: "https://h/a.git".into(), submodules: true, ..Git::default() };
        assert_eq!(git("https://h/a.git#v1:x/../y"), Git { reference: "v1".into(), subdir: "y".into(), ..base.clone() });
        assert_eq!(git("https://h/a.git#:../../etc"), Git { subdir: "etc".into(), ..base.clone() });
        let all = parse("https://h/a.git?branch=b&subdir=s&commit=ab12&submodules=false&keep-git-dir").unwrap().unwrap();
        assert_eq!(all.keep_git_dir, Some(true));
        assert_eq!(all.git, Git { reference: "refs/heads/b".into(), subdir: "s".into(), checksum: "ab12".into(), submodules: false, ..base });
        for bad in [
            "https://h/a.git?x=1",
            "https://h/a.git?ref=a&ref=b",
            "https://h/a.git?ref=",
            "https://h/a.git#--upload-pack=x",
            "https://h/a.git?commit=xyz",
            "https://h/a.git?submodules=2",
        ] {
            assert!(parse(bad).unwrap().is_err(), "{bad}");
        }
    }
}
