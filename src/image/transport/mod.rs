//! Images elsewhere than in the store or a registry: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]`.

mod archive;
mod draft;
mod staging;

pub use staging::Staging;

use super::model::Descriptor;
use super::reference::Reference;
use super::store::{Entry, Hold, Store};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const LAYOUT: &str = "oci:";
const ARCHIVE: &str = "docker-archive:";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the store, by its name.
    Store(String),
    /// In an OCI image layout; the only one there, or the one of that name.
    Layout { dir: PathBuf, name: Option<String> },
    /// In what `docker save` writes.
    Archive { file: PathBuf, name: Option<String> },
}

/// Where an image is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Layout { dir: PathBuf, name: String },
    Archive { file: PathBuf, name: Reference },
}

/// An image that can be read.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub entry: Entry,
    /// Keeps blobs that have no name from being pruned.
    pub hold: Hold,
}

impl Source {
    /// `oci:…`, `docker-archive:…`, or a name in the store.
    pub fn parse(text: &str) -> Result<Source> {
        if let Some(rest) = text.strip_prefix(LAYOUT) {
            let (dir, name) = place(text, rest)?;
            return Ok(Source::Layout { dir, name });
        }
        if let Some(rest) = text.strip_prefix(ARCHIVE) {
            let (file, name) = place(text, rest)?;
            return Ok(Source::Archive { file, name });
        }
        Ok(Source::Store(text.to_string()))
    }

    /// Find the image. An archive's blobs are brought into the store that `store` opens, without a name.
    pub fn open(&self, store: impl FnOnce() -> Result<Store>) -> Result<Opened> {
        match self {
            Source::Store(name) => {
                let store = store()?;
                let hold = store.hold()?;
                Ok(Opened { entry: store.resolve(name)?, store, hold })
            }
            Source::Layout { dir, name } => {
                let store = Store::existing(dir)?;
                let hold = store.hold()?;
                let entry = match name {
                    Some(name) => store.resolve(name)?,
                    None => store.only()?,
                };
                Ok(Opened { store, entry, hold })
            }
            Source::Archive { file, name } => {
                let store = store()?;
                let hold = store.hold()?;
                let entry = archive::read(file, name.as_deref(), &store)?;
                Ok(Opened { store, entry, hold })
            }
        }
    }
}

impl Target {
    /// `oci:…` or `docker-archive:…`, where the image `reference` goes.
    pub fn parse(text: &str, reference: &Reference) -> Result<Target> {
        if let Some(rest) = text.strip_prefix(LAYOUT) {
            let (dir, name) = place(text, rest)?;
            // As other tools name what they put there.
            return Ok(Target::Layout { dir, name: name.unwrap_or_else(|| reference.tag().unwrap_or("latest").into()) });
        }
        if let Some(rest) = text.strip_prefix(ARCHIVE) {
            let (file, name) = place(text, rest)?;
            let name = name.map_or_else(|| Ok(reference.clone()), |name| name.parse())?;
            return Ok(Target::Archive { file, name });
        }
        Err(Error::usage(format!("{text:?} is no place for an image")).hint("write oci:DIR[:NAME] or docker-archive:FILE[:NAME]"))
    }
}

/// Write the image `descriptor` of `store` as `docker save` would.
pub fn write_archive(store: &Store, descriptor: &Descriptor, file: &Path, name: &Reference) -> Result<()> {
    archive::write(store, descriptor, file, name)
}

/// Path and name, parted by the first colon.
fn place(whole: &str, text: &str) -> Result<(PathBuf, Option<String>)> {
    let (path, name) = text.split_once(':').map_or((text, None), |(path, name)| (path, Some(name)));
    if path.is_empty() || name == Some("") {
        return Err(Error::usage(format!("{whole:?}: a path is missing, or a name behind the colon")));
    }
    Ok((path.into(), name.map(String::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let layout = |dir: &str, name: Option<&str>| Source::Layout { dir: dir.into(), name: name.map(String::from) };
        assert_eq!(Source::parse("oci:a/b").unwrap(), layout("a/b", None));
        assert_eq!(Source::parse("oci:a:b:c").unwrap(), layout("a", Some("b:c")));
        assert_eq!(Source::parse("nginx:1").unwrap(), Source::Store("nginx:1".into()));
        assert_eq!(Source::parse("docker-archive:f").unwrap(), Source::Archive { file: "f".into(), name: None });
        for bad in ["oci:", "oci::x", "docker-archive:f:"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
        let reference: Reference = "nginx:1.27".parse().unwrap();
        assert_eq!(Target::parse("oci:d", &reference).unwrap(), Target::Layout { dir: "d".into(), name: "1.27".into() });
        assert!(Target::parse("dir:x", &reference).is_err());
    }
}
