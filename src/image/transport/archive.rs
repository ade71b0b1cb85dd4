//! What `docker save` writes and `docker load` reads: a tar with a `manifest.json`, configs and layers.

use super::draft::Draft;
use crate::image::digest::{Algorithm, Digest, HashingReader};
use crate::image::model::{Descriptor, ImageConfig, MOST_DOCUMENT, Manifest, media};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::store::{Entry, Store, failed};
use crate::image::unpack::decompress::{Compression, Decoder};
use crate::image::unpack::entry as tar_entry;
use crate::image::unpack::reader::Reader;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

const MANIFEST: &str = "manifest.json";
/// Members of an archive; more than any image has layers.
const MOST_MEMBERS: usize = 10_000;

/// An element of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "crate::spec::null_is_default")]
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// An archive whose members can be read in any order.
struct Archive<'a> {
    path: &'a Path,
    file: File,
    members: BTreeMap<PathBuf, Member>,
}

enum Member {
    /// Offset and size of the content.
    Content(u64, u64),
    /// Old archives have a layer once, and links to it.
    Link(PathBuf),
}

/// Bring the image `name`, or the only one, of the archive `path` into `store`. It gets no name there.
pub fn read(path: &Path, name: Option<&str>, store: &Store) -> Result<Entry> {
    let archive = Archive::open(path)?;
    let wrong = |cause: String| Error::other("reading", path.display().to_string(), cause);
    let saved: Vec<Saved> = serde_json::from_slice(&archive.small(Path::new(MANIFEST))?).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    let saved = choose(&saved, name).map_err(wrong)?;
    let config_bytes = archive.small(Path::new(&saved.config))?;
    let config = ImageConfig::parse(&config_bytes)?;
    if config.rootfs.diff_ids.len() != saved.layers.len() {
        return Err(wrong(format!("the config has {} layers, {MANIFEST} {}", config.rootfs.diff_ids.len(), saved.layers.len())));
    }
    let layers = saved.layers.iter().map(|layer| archive.layer(Path::new(layer), store)).collect::<Result<Vec<_>>>()?;
    for (layer, diff_id) in layers.iter().zip(&config.rootfs.diff_ids) {
        // A compressed one is checked when it is unpacked.
        if layer.media_type == media::LAYER && diff_id.algorithm() == Algorithm::Sha256 {
            diff_id.expect(layer.digest.clone())?;
        }
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::MANIFEST.into(),
        artifact_type: String::new(),
        config: store.put(media::CONFIG, &config_bytes)?,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|e| wrong(e.to_string()))?;
    let mut descriptor = store.put(media::MANIFEST, &bytes)?;
    descriptor.platform = Some(config.platform);
    Ok(Entry { name: saved.repo_tags.first().cloned().unwrap_or_default(), descriptor })
}

fn choose<'a>(all: &'a [Saved], name: Option<&str>) -> Result<&'a Saved, String> {
    let names = || all.iter().flat_map(|s| s.repo_tags.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        return match all {
            [one] => Ok(one),
            [] => Err("there is no image in it".into()),
            _ => Err(format!("there are several images in it: add :NAME, one of {}", names())),
        };
    };
    let whole = |text: &str| text.parse::<Reference>().map_or_else(|_| text.to_string(), |r| r.to_string());
    all.iter().find(|s| s.repo_tags.iter().any(|tag| whole(tag) == whole(name))).ok_or_else(|| format!("there is no image {name} in it, but {}", names()))
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Archive<'a>> {
        let file = File::open(path).map_err(failed("opening", path))?;
        let mut start = [0; 4];
        let n = file.read_at(&mut start, 0).map_err(failed("reading", path))?;
        if !matches!(Compression::of(&start[..n]), Ok(Compression::None)) {
            return Err(Error::other("reading", path.display().to_string(), "it is compressed as a whole").hint("decompress it first"));
        }
        let members = members(&file).map_err(|e| e.within(&format!("reading {}", path.display())))?;
        Ok(Archive { path, file, members })
    }

    /// The place of a member's content, through links.
    fn find(&self, name: &Path) -> Result<(u64, u64)> {
        let mut at = clean(name);
        for _ in 0..8 {
            match self.members.get(&at) {
                Some(Member::Content(offset, size)) => return Ok((*offset, *size)),
                Some(Member::Link(target)) => at = clean(&at.parent().unwrap_or(Path::new("")).join(target)),
                None => break,
            }
        }
        Err(Error::new(Kind::NotFound, "reading", self.path.display().to_string(), format!("there is no {} in it", name.display())))
    }

    fn content(&self, name: &Path) -> Result<impl Read> {
        let (offset, size) = self.find(name)?;
        let mut file = File::open(self.path).map_err(failed("opening", self.path))?;
        file.seek(SeekFrom::Start(offset)).map_err(failed("reading", self.path))?;
        Ok(file.take(size))
    }

    fn small(&self, name: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.content(name)?.take(MOST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(failed("reading", self.path))?;
        if bytes.len() as u64 > MOST_DOCUMENT {
            return Err(Error::other("reading", self.path.display().to_string(), format!("{} has more than {MOST_DOCUMENT} bytes", name.display())));
        }
        Ok(bytes)
    }

    fn layer(&self, name: &Path, store: &Store) -> Result<Descriptor> {
        let (offset, _) = self.find(name)?;
        let mut start = [0; 4];
        let n = self.file.read_at(&mut start, offset).map_err(failed("reading", self.path))?;
        let media_type = match Compression::of(&start[..n])? {
            Compression::Gzip => media::LAYER_GZIP,
            Compression::Zstd => media::LAYER_ZSTD,
            Compression::None => media::LAYER,
        };
        store.put_reader(media_type, self.content(name)?)
    }
}

/// Read by the same reader as layers, which keeps little of what it reads.
fn members(file: &File) -> Result<BTreeMap<PathBuf, Member>> {
    let wrong = |cause: String| Error::other("reading the archive", "", cause);
    let length = file.metadata().map_err(|e| Error::io(&e, "looking at the archive", ""))?.len();
    let (mut reader, mut entry, mut all) = (Reader::new(BufReader::new(file)), tar_entry::Entry::default(), BTreeMap::new());
    while reader.next(&mut entry)? {
        let start = reader.pass_over()?;
        if entry.path.len().max(entry.link.len()) > libc::PATH_MAX as usize {
            return Err(wrong(format!("a name is too long: {}", entry.shown())));
        }
        let target = PathBuf::from(OsStr::from_bytes(&entry.link));
        let member = match entry.kind {
            tar_entry::Kind::File if entry.parts.is_none() && start + entry.size > length => {
                return Err(wrong(format!("it ends in the middle of {}", entry.shown())));
            }
            tar_entry::Kind::File if entry.parts.is_none() => Member::Content(start, entry.size),
            tar_entry::Kind::Symlink => Member::Link(target),
            // Its target is named from the top.
            tar_entry::Kind::HardLink => Member::Link(Path::new("/").join(target)),
            _ => continue,
        };
        if all.len() == MOST_MEMBERS {
            return Err(wrong(format!("there are more than {MOST_MEMBERS} files in it")));
        }
        all.insert(clean(Path::new(OsStr::from_bytes(&entry.path))), member);
    }
    Ok(all)
}

/// A member's name without `.` and `..`, which lead nowhere but inside the archive.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Write the image `descriptor` of `store` as `docker save` would: layers uncompressed, and checked on the way.
pub fn write(store: &Store, descriptor: &Descriptor, path: &Path, name: &Reference) -> Result<()> {
    let image = store.image(descriptor, &Platform::host())?;
    let config_bytes = store.read_blob(&image.manifest.config)?;
    let config = format!("{}.json", image.manifest.config.digest.hex());
    let draft = Draft::new(path)?;
    let mut out = Writer { file: BufWriter::with_capacity(256 << 10, &draft.file), path };
    let mut layers = Vec::new();
    for (at, layer) in image.manifest.layers.iter().enumerate() {
        let Some(diff_id) = image.config.rootfs.diff_ids.get(at) else {
            return Err(Error::other("writing", path.display().to_string(), "the config has fewer diff ids than there are layers"));
        };
        let name = format!("{}.tar", diff_id.hex());
        if !layers.contains(&name) {
            out.layer(&name, store.open_blob(&layer.digest)?, diff_id)?;
        }
        layers.push(name);
    }
    out.member(&config, &config_bytes)?;
    let tags = name.digest().is_none().then(|| name.familiar()).into_iter().collect();
    let saved = serde_json::to_vec(&[Saved { config, repo_tags: tags, layers }]).map_err(|e| Error::other("writing", path.display().to_string(), e))?;
    out.member(MANIFEST, &saved)?;
    out.finish()?;
    draft.commit()
}

struct Writer<'a> {
    file: BufWriter<&'a File>,
    path: &'a Path,
}

impl Writer<'_> {
    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(failed("writing", self.path))?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.file.write_all(header.as_bytes()).map_err(failed("writing", self.path))
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = (512 - size % 512) % 512;
        self.file.write_all(&[0; 512][..rest as usize]).map_err(failed("writing", self.path))
    }

    fn member(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.header(name, content.len() as u64)?;
        self.file.write_all(content).map_err(failed("writing", self.path))?;
        self.pad(content.len() as u64)
    }

    /// The size is known only at the end, so the header is written again.
    fn layer(&mut self, name: &str, blob: File, diff_id: &Digest) -> Result<()> {
        let start = self.file.stream_position().map_err(failed("writing", self.path))?;
        self.header(name, 0)?;
        let mut plain = HashingReader::new(Decoder::new(blob)?, diff_id.algorithm());
        io::copy(&mut plain, &mut self.file).map_err(|e| Error::io(&e, "decompressing layer", diff_id.to_string()))?;
        let (found, size, _) = plain.finish();
        diff_id.expect(found)?;
        self.file.seek(SeekFrom::Start(start)).map_err(failed("writing", self.path))?;
        self.header(name, size)?;
        self.file.seek(SeekFrom::End(0)).map_err(failed("writing", self.path))?;
        self.pad(size)
    }

    fn finish(mut self) -> Result<()> {
        self.file.write_all(&[0; 1024]).map_err(failed("writing", self.path))?;
        let file = self.file.into_inner().map_err(|e| failed("writing", self.path)(e.into_error()))?;
        file.sync_all().map_err(failed("writing", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn there_and_back() {
        let dir = std::env::temp_dir().join(format!("dhow-archive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let (from, to) = (Store::open(&dir.join("from")).unwrap(), Store::open(&dir.join("to")).unwrap());
        let content = vec![7; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let layer = from.put(media::LAYER_GZIP, &gzip.finish().unwrap()).unwrap();
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&content)]}});
        let config = from.put(media::CONFIG, config.to_string().as_bytes()).unwrap();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = from.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap();
        let file = dir.join("image.tar");
        write(&from, &manifest, &file, &"busybox:1".parse().unwrap()).unwrap();
        let entry = read(&file, Some("docker.io/library/busybox:1"), &to).unwrap();
        assert_eq!(entry.name, "busybox:1");
        let image = to.image(&entry.descriptor, &Platform::host()).unwrap();
        assert_eq!((image.manifest.layers[0].size, &image.manifest.layers[0].digest), (100_000, &Digest::of(&content)));
        assert!(read(&file, Some("busybox:2"), &to).unwrap_err().to_string().contains("no image busybox:2"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean(Path::new("./a/../../../b//c")), Path::new("b/c"));
        assert_eq!(clean(Path::new("/etc/passwd")), Path::new("etc/passwd"));
    }
}
