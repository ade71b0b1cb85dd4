//! The whole of a build: read, plan, solve, commit.
//!
//! `solve` has a thread for each stage, `step` does one step of it: `copy` and `add` write files, `run` starts a
//! container, `diff` makes a layer of what came of it, `cache` keeps it. docs/build.md tells the rest.

mod add;
mod agent;
pub mod cache;
mod commit;
mod copy;
mod diff;
mod files;
mod gzip;
mod mounts;
mod output;
mod run;
mod select;
mod solve;
mod step;
mod tar;
mod tip;

pub use solve::{Around, Stopper};

use crate::image::build::dockerfile::chmod;
use crate::image::build::dockerfile::ignore::{Patterns, Verdict};
use crate::image::build::dockerfile::outline::outline;
use crate::image::build::dockerfile::parse::Dockerfile;
use crate::image::build::dockerfile::stage::plan_stage;
use crate::image::build::plan::{Inputs, Source, State};
use crate::image::build::request::{BuildRequest, Context, DockerfileFrom};
use crate::image::layers::{Layers, Workshop};
use crate::image::signals::Signals;
use crate::image::store::{Image, failed};
use crate::image::{Platform, Store};
use crate::{Error, Kind, Result};
use select::Exclude;
use solve::{Build, Front};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Whether a path of a tree is left out.
type Ignore = Box<dyn Fn(&[u8]) -> Verdict + Send + Sync>;

/// Of a Dockerfile or an ignore file, in bytes.
const MOST_TEXT: u64 = 4 << 20;

/// Build what is asked for, name it and bring it where it is wanted.
///
/// # Errors
/// The Dockerfile is wrong, a step failed, or a signal came. Nothing half made is left; what was done by then is in the
/// cache.
pub fn build(request: &BuildRequest, around: &Around, signals: &Signals) -> Result<Image> {
    solve::prepare()?;
    // Threads mount with working directories of their own, and the runtime has another.
    let root = std::path::absolute(around.store.root()).map_err(failed("looking for", around.store.root()))?;
    let around = &Around { store: Store::open(&root)?, client: around.client.clone(), runtime: around.runtime.clone(), progress: around.progress.clone() };
    request.check()?;
    let stopper = Stopper::default();
    let stop = stopper.clone();
    signals.stop_by(move || stop.stop());
    let read = Input::read(request, &around.store)?;
    let file = Dockerfile::parse(&read.name, &read.text)?;
    let host = plain(Platform::host());
    let inputs = Inputs {
        args: request.args.clone(),
        target: request.target.clone(),
        build_platform: host.clone(),
        target_platform: request.platform.clone().unwrap_or(host),
        contexts: request.contexts.keys().cloned().collect(),
    };
    let outline = outline(&file, &inputs)?;
    let ignore = read.ignore()?;
    let front = Front {
        outline: &outline,
        plan: &|index, state: State| plan_stage(&file, &inputs, index, state),
        excerpt: &|source: &Source| file.excerpt(source),
        ignore: &*ignore,
        name: &read.name,
    };
    let build = Build::new(request, around, &front, &read.context, stopper, read.workshop)?;
    outline.warnings.iter().for_each(|w| build.output.note(&format!("{}:{}: {}: {}", read.name, w.source.first_line, w.rule, w.message)));
    let tip = build.solve()?;
    let image = commit::image(&around.store, request, &tip)?;
    commit::deliver(around, request, &image)?;
    request.cache_to.iter().try_for_each(|place| build.cache.export(place, &around.client, &around.progress))?;
    Ok(image)
}

/// Without the level of an x86 processor: an image is for all of them.
fn plain(platform: Platform) -> Platform {
    if platform.architecture == "amd64" { Platform { variant: String::new(), ..platform } } else { platform }
}

/// What the build reads: a context, a Dockerfile.
struct Input {
    context: PathBuf,
    /// Of the Dockerfile, for messages.
    name: String,
    text: Vec<u8>,
    /// Beside the Dockerfile, an ignore file of its own.
    own_ignore: Option<PathBuf>,
    /// It has the context, if that came as an archive or isn't there.
    workshop: Option<Workshop>,
}

impl Input {
    fn read(request: &BuildRequest, store: &Store) -> Result<Input> {
        if request.context == Context::Stdin && request.dockerfile == DockerfileFrom::Stdin {
            return Err(Error::usage("standard input can't be both the context and the Dockerfile"));
        }
        let (context, workshop, piped) = match &request.context {
            Context::Dir(dir) => (std::path::absolute(dir).map_err(failed("looking for", dir))?, None, None),
            Context::Stdin => Input::from_stdin(store)?,
        };
        if let Some(text) = piped {
            return Ok(Input { context, name: "Dockerfile".into(), text, own_ignore: None, workshop });
        }
        let path = match &request.dockerfile {
            DockerfileFrom::Stdin => {
                let text = bounded(std::io::stdin().lock(), "standard input")?;
                return Ok(Input { context, name: "Dockerfile".into(), text, own_ignore: None, workshop });
            }
            DockerfileFrom::File(path) if workshop.is_none() => path.clone(),
            DockerfileFrom::File(path) => context.join(path.strip_prefix("/").unwrap_or(path)),
            DockerfileFrom::Default => context.join("Dockerfile"),
        };
        let open = |path: &Path| File::open(path).map_err(|e| not_found(&e, path));
        let (file, path) = match open(&path) {
            Err(e) if request.dockerfile == DockerfileFrom::Default && e.kind == Kind::NotFound => {
                let lower = context.join("dockerfile");
                (open(&lower).map_err(|_| e)?, lower)
            }
            other => (other?, path),
        };
        let text = bounded(file, &path.display().to_string())?;
        let mut own = path.clone().into_os_string();
        own.push(".dockerignore");
        let name = path.file_name().map_or_else(|| "Dockerfile".into(), |name| name.to_string_lossy().into_owned());
        Ok(Input { context, name, text, own_ignore: Some(own.into()), workshop })
    }

    /// An archive is unpacked into a directory of its own; a Dockerfile comes with an empty one.
    fn from_stdin(store: &Store) -> Result<(PathBuf, Option<Workshop>, Option<Vec<u8>>)> {
        let workshop = Layers::open(store)?.workshop()?;
        let whole = workshop.new_dir("stdin")?;
        let archive = whole.join("archive");
        let mut file = File::create(&archive).map_err(failed("making", &archive))?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(|e| Error::io(&e, "reading the context from", "standard input"))?;
        let context = workshop.new_dir("context")?;
        let (from, to) = (File::open(&whole).map_err(failed("opening", &whole))?, File::open(&context).map_err(failed("opening", &context))?);
        use std::os::fd::AsFd;
        if add::is_archive(from.as_fd(), b"archive")? {
            add::unpack(to.as_fd(), from.as_fd(), b"archive", "/", None)?;
            return Ok((context, Some(workshop), None));
        }
        let text = bounded(File::open(&archive).map_err(failed("opening", &archive))?, "standard input")?;
        Ok((context, Some(workshop), Some(text)))
    }

    fn ignore(&self) -> Result<Ignore> {
        match &self.own_ignore {
            Some(own) if own.exists() => ignore_from(own),
            _ => ignore_of(&self.context),
        }
    }
}

fn not_found(e: &std::io::Error, path: &Path) -> Error {
    let error = Error::io(e, "opening the Dockerfile", path.display().to_string());
    if e.kind() == std::io::ErrorKind::NotFound {
        return Error::new(Kind::NotFound, "opening the Dockerfile", path.display().to_string(), "there is no such file").hint("-f FILE names another");
    }
    error
}

fn bounded(from: impl Read, shown: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MOST_TEXT + 1).read_to_end(&mut text).map_err(|e| Error::io(&e, "reading", shown))?;
    if text.len() as u64 > MOST_TEXT {
        return Err(Error::other("reading", shown, format!("it has more than {MOST_TEXT} bytes")));
    }
    Ok(text)
}

/// What `.dockerignore` of a directory says.
fn ignore_of(dir: &Path) -> Result<Ignore> {
    ignore_from(&dir.join(".dockerignore"))
}

fn ignore_from(path: &Path) -> Result<Ignore> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Box::new(|_| Verdict::Keep)),
        other => other.map_err(failed("reading", path))?,
    };
    let patterns = Patterns::parse(&text).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    Ok(Box::new(move |path| patterns.judge(path)))
}

/// What `--exclude` says.
fn exclude_of(patterns: &[String]) -> Result<Box<Exclude<'static>>> {
    let patterns = Patterns::of(patterns).map_err(|e| Error::usage(format!("--exclude: {e}")))?;
    Ok(Box::new(move |path| if patterns.is_empty() { Verdict::Keep } else { patterns.judge(path) }))
}

/// `--chmod` in chmod(1)'s words: the new mode from the old one, and whether it is a directory's.
fn symbolic(text: &str) -> Result<Box<dyn Fn(u32, bool) -> u32>> {
    let changes = chmod::parse(text).ok_or_else(|| Error::usage(format!("--chmod={text}: it is no mode")))?;
    Ok(Box::new(move |mode, is_dir| changes.apply(mode, is_dir)))
}
