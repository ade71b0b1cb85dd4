//! One step: its key, a look into the cache, and if it has to be done, the files and the layer.

use super::cache::{self, Record};
use super::output::{Ended, Shown};
use super::select::{self, Read, Top, Tree};
use super::solve::{Build, Local, interrupted};
use super::tip::{Duty, Promise, Tip};
use super::{add, copy, diff};
use crate::image::build::dockerfile::ignore::Verdict;
use crate::image::build::plan::{Action, Chmod, Copy, CopySource, MakeDir, MountKind, Network, Origin, Run, Step};
use crate::image::convert::user;
use crate::image::ids;
use crate::image::layers::{Draft, Files, View};
use crate::image::store::MAKE_ROOM;
use crate::image::{Digest, Platform};
use crate::{Error, Result};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Scope;

/// Where a source's files are, open.
pub(super) enum Opened {
    Context,
    Local(Arc<Local>),
    View(Arc<View>, File),
    /// Made by us: a download, a here-document. The directory goes with the workshop.
    Own(File),
}

/// A source with what was selected of it.
struct Selected {
    opened: Opened,
    tops: Vec<Top>,
    unpack: bool,
    wildcards: bool,
    base: Option<String>,
}

impl<'a> Build<'a> {
    pub fn step<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, tip: &mut Tip, step: &Step, title: &str) -> Result<()> {
        if step.action == Action::Config {
            if let Some(text) = &step.history {
                self.add_history(tip, text, true);
            }
            return Ok(());
        }
        let shown = self.output.step(title);
        let done = self.action(scope, tip, step, &shown);
        match &done {
            Ok(ended) => shown.end(*ended),
            Err(_) if self.stopper.is_stopped() => shown.end(Ended::Stopped),
            Err(_) => shown.end(Ended::Failed),
        }
        let told = |e: Error| {
            if !self.stopper.is_stopped() {
                self.output.always(format!("{}\n", (self.front.excerpt)(&step.source)).as_bytes());
            }
            advised(e).within(&format!("{}:{}: {}", self.front.name, step.source.first_line, step.title.lines().next().unwrap_or_default()))
        };
        done.map_err(told)?;
        if let Some(text) = &step.history {
            self.add_history(tip, text, false);
        }
        Ok(())
    }

    fn action<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, tip: &mut Tip, step: &Step, shown: &Shown) -> Result<Ended> {
        let work = Work { build: self, scope, title: &step.title };
        match &step.action {
            Action::Config => Ok(Ended::Done),
            Action::MakeDir(dir) => work.make_dir(tip, dir),
            Action::Copy(copy) => work.copy(tip, copy),
            Action::Run(run) => work.run(tip, run, shown),
        }
    }

    /// The root of an origin's files, to be read.
    pub(super) fn opened(&self, origin: &Origin, platform: &Platform) -> Result<Opened> {
        if *origin == Origin::Context {
            return Ok(Opened::Context);
        }
        if let Origin::Named(name) = origin
            && let Some(local) = self.local(name)?
        {
            return Ok(Opened::Local(local));
        }
        let view = self.view(origin, platform)?;
        let root = File::open(&view.path).map_err(|e| Error::io(&e, "opening", view.path.display().to_string()))?;
        Ok(Opened::View(view, root))
    }

    pub(super) fn with_tree<T>(&self, opened: &Opened, f: impl FnOnce(&Tree) -> Result<T>) -> Result<T> {
        let context = |path: &[u8]| (self.front.ignore)(path);
        match opened {
            Opened::Context => f(&Tree { root: self.context.as_fd(), ignore: Some(&context), roots_own: true }),
            Opened::Local(local) => f(&Tree { root: local.root.as_fd(), ignore: Some(&|path: &[u8]| (local.ignore)(path)), roots_own: true }),
            Opened::View(_, root) => f(&Tree { root: root.as_fd(), ignore: None, roots_own: false }),
            Opened::Own(root) => f(&Tree { root: root.as_fd(), ignore: None, roots_own: true }),
        }
    }

    /// The key of what an origin is, if that is known without looking at its files.
    fn origin_key(&self, origin: &Origin, platform: &Platform) -> Result<Option<Digest>> {
        match origin {
            Origin::Context => Ok(None),
            Origin::Named(name) if self.local(name)?.is_some() => Ok(None),
            origin => self.tip_of(origin, platform).map(|tip| Some(tip.key)),
        }
    }
}

/// What a step needs to be done.
struct Work<'w, 'scope, 'env> {
    build: &'scope Build<'scope>,
    scope: &'scope Scope<'scope, 'env>,
    title: &'w str,
}

impl Work<'_, '_, '_> {
    /// It is in the cache: go on from there.
    fn hit(&self, tip: &mut Tip, record: &Record) -> Ended {
        tip.layers.push(Promise::kept(record.layer()));
        tip.files = None;
        tip.key = record.key.clone();
        tip.created = record.created.clone();
        Ended::Cached
    }

    /// `key`s under which the outcome is found again, the one of the contents first.
    fn done(&self, tip: &mut Tip, below: &Files, draft: Draft, keys: Vec<Digest>, next: Digest, root: (u32, u32, u32)) -> Result<Ended> {
        let promise = Promise::new();
        let build = self.build;
        let earlier = tip.layers.clone();
        let created = cache::now(build.epoch);
        let record = |layer: &crate::image::pipeline::Layer| Record {
            key: next.clone(),
            layer: layer.blob.clone(),
            diff_id: layer.diff_id.clone(),
            created: created.clone(),
            title: self.title.to_string(),
        };
        tip.files = Some(below.with(&draft));
        tip.created = created.clone();
        tip.layers.push(promise.clone());
        let proto = record(&crate::image::pipeline::Layer { blob: crate::image::Descriptor::of("", b""), diff_id: Digest::of(b"") });
        tip.key = next;
        let upper = draft.files();
        let write = move || -> Result<crate::image::pipeline::Layer> {
            let written = diff::layer(&build.around.store, &upper, root, build.epoch)?;
            let record = Record { layer: written.layer.blob.clone(), diff_id: written.layer.diff_id.clone(), ..proto };
            keys.iter().try_for_each(|key| build.cache.keep(key, &record))?;
            let mut layers = earlier.iter().map(|promise| promise.wait()).collect::<Result<Vec<_>>>()?;
            layers.push(written.layer.clone());
            if let Some(chain) = diff::chain(&layers) {
                build.workshop()?.adopt(&draft, &chain, written.entries, written.bytes)?;
            }
            Ok(written.layer)
        };
        let title = self.title.lines().next().unwrap_or_default().to_string();
        let work = move || {
            let duty = Duty(promise);
            duty.0.keep(write().map_err(|e| e.within(&title)));
        };
        std::thread::Builder::new().spawn_scoped(self.scope, work).map_err(|e| Error::io(&e, "starting a thread", ""))?;
        Ok(Ended::Done)
    }

    fn make_dir(&self, tip: &mut Tip, dir: &MakeDir) -> Result<Ended> {
        let key = cache::key(&[b"workdir", tip.key.to_string().as_bytes(), dir.path.as_bytes(), dir.user.as_bytes()]);
        if let Some(record) = self.build.cache.find(&key) {
            return Ok(self.hit(tip, &record));
        }
        self.write(tip, vec![key.clone()], key, false, |root| {
            let owner = owner(&dir.user, root)?.unwrap_or((0, 0));
            copy::make_dirs(root, dir.path.as_bytes(), owner, false).map(drop)
        })
    }

    /// Have `fill` write into the files of the step before, and make a layer of that.
    fn write(&self, tip: &mut Tip, keys: Vec<Digest>, next: Digest, on_nothing: bool, fill: impl FnOnce(BorrowedFd) -> Result<()>) -> Result<Ended> {
        let workshop = self.build.workshop()?;
        let files = self.build.files(tip)?;
        let below = if on_nothing { Files::default() } else { files.clone() };
        let draft = workshop.draft(&below)?;
        let before = attributes(&draft)?;
        {
            let view = workshop.mount(&below, &draft, None)?;
            let root = File::open(&view.path).map_err(|e| Error::io(&e, "opening", view.path.display().to_string()))?;
            fill(root.as_fd())?;
        }
        self.done(tip, &files, draft, keys, next, before)
    }

    fn copy(&self, tip: &mut Tip, copy: &Copy) -> Result<Ended> {
        let build = self.build;
        // Whose files they are is said by what is in them.
        let mut plain = copy.clone();
        for source in &mut plain.sources {
            if let CopySource::Files { from, .. } = source {
                *from = Origin::Scratch;
            }
        }
        let definition = serde_json::to_vec(&plain).map_err(|e| Error::other("copying", "", e))?;
        let parent = if copy.link { cache::key(&[b"link"]) } else { tip.key.clone() };
        let fast = self.fast_key(&parent, &definition, copy, tip)?;
        if let Some(record) = fast.as_ref().and_then(|key| build.cache.find(key)) {
            return Ok(self.hit_copy(tip, copy, &record));
        }
        let (mut selected, mut digests) = (Vec::new(), Vec::new());
        for source in &copy.sources {
            let one = self.selected(source, copy, &tip.platform)?;
            digests.push(select::digest(&one.tops).to_string());
            selected.push(one);
        }
        let mut parts: Vec<&[u8]> = vec![b"copy"];
        let parent = parent.to_string();
        parts.extend([parent.as_bytes(), &definition]);
        parts.extend(digests.iter().map(String::as_bytes));
        let key = cache::key(&parts);
        if let Some(record) = build.cache.find(&key) {
            if let Some(fast) = &fast {
                build.cache.keep(fast, &record)?;
            }
            return Ok(self.hit_copy(tip, copy, &record));
        }
        if selected.iter().all(|s| s.tops.is_empty()) && !selected.iter().any(|s| s.wildcards) {
            return Err(Error::other("copying", copy.to.clone(), "all that it names is ignored").hint("see .dockerignore and --exclude"));
        }
        let keys = std::iter::once(key.clone()).chain(fast).collect();
        let before = tip.key.clone();
        let ended = {
            let base_owner = if copy.link && !copy.chown.is_empty() { Some(self.owner_in(tip, &copy.chown)?) } else { None };
            self.write(tip, keys, key.clone(), copy.link, |root| self.put(root, copy, &selected, base_owner))?
        };
        if copy.link {
            tip.key = merged(&before, &key);
        }
        Ok(ended)
    }

    /// A link's layer is the same whatever is below it; the next step's key isn't.
    fn hit_copy(&self, tip: &mut Tip, copy: &Copy, record: &Record) -> Ended {
        let before = tip.key.clone();
        let ended = self.hit(tip, record);
        if copy.link {
            tip.key = merged(&before, &record.key);
        }
        ended
    }

    /// The key by what the sources were made of, if all of them were made by steps.
    fn fast_key(&self, parent: &Digest, definition: &[u8], copy: &Copy, tip: &Tip) -> Result<Option<Digest>> {
        let mut text = Vec::new();
        for source in &copy.sources {
            let key = match source {
                CopySource::Files { from, .. } => self.build.origin_key(from, &tip.platform)?,
                CopySource::Inline(_) => Some(Digest::of(b"")),
                CopySource::Http { checksum, .. } => checksum.clone(),
                CopySource::Git(_) => None,
            };
            match key {
                Some(key) => text.extend_from_slice(key.to_string().as_bytes()),
                None => return Ok(None),
            }
        }
        Ok(Some(cache::key(&[b"copy by origin", parent.to_string().as_bytes(), definition, &text])))
    }

    fn selected(&self, source: &CopySource, copy: &Copy, platform: &Platform) -> Result<Selected> {
        let exclude = super::exclude_of(&copy.exclude)?;
        let whole = |path: PathBuf, pattern: &str, unpack: bool| -> Result<Selected> {
            let root = File::open(&path).map_err(|e| Error::io(&e, "opening", path.display().to_string()))?;
            let opened = Opened::Own(root);
            let tops = self.build.with_tree(&opened, |tree| select::select(tree, "/", pattern, false, &*exclude, Read::Contents))?;
            Ok(Selected { opened, tops, unpack, wildcards: false, base: None })
        };
        match source {
            CopySource::Files { from, base, pattern, unpack } => {
                let opened = self.build.opened(from, platform)?;
                let tops = self.build.with_tree(&opened, |tree| select::select(tree, base, pattern, copy.parents, &*exclude, Read::Contents))?;
                let base = copy.parents.then(|| base.clone());
                Ok(Selected { opened, tops, unpack: *unpack, wildcards: select::has_wildcards(pattern), base })
            }
            CopySource::Inline(inline) => {
                let dir = self.build.workshop()?.new_dir("inline")?;
                add::write_inline(&dir, inline, 0o644, self.build.epoch)?;
                whole(dir, &escaped(&inline.name), false)
            }
            CopySource::Http { url, name, checksum, unpack } => {
                let dir = self.build.workshop()?.new_dir("download")?;
                add::download(&self.build.around.client, url, checksum.as_ref(), &dir.join(name))?;
                whole(dir, &escaped(name), *unpack)
            }
            CopySource::Git(git) => {
                let dir = self.build.workshop()?.new_dir("git")?;
                let agent = self.build.request.ssh.get("default").and_then(|sockets| sockets.first());
                let tree = add::clone(git, agent.map(PathBuf::as_path), &dir)?;
                whole(tree, &escaped_path(&format!("/{}", git.subdir)), false)
            }
        }
    }

    fn owner_in(&self, tip: &mut Tip, chown: &str) -> Result<Option<(u32, u32)>> {
        let files = self.build.files(tip)?;
        let view = self.build.workshop()?.view(&files)?;
        let root = File::open(&view.path).map_err(|e| Error::io(&e, "opening", view.path.display().to_string()))?;
        owner(chown, root.as_fd())
    }

    fn put(&self, root: BorrowedFd, copy: &Copy, selected: &[Selected], link_owner: Option<Option<(u32, u32)>>) -> Result<()> {
        let owner = match link_owner {
            Some(owner) => owner,
            None => owner(&copy.chown, root)?,
        };
        let change: Option<Box<dyn Fn(u32, bool) -> u32>> = match &copy.chmod {
            None => None,
            Some(Chmod::Mode(mode)) => {
                let mode = *mode;
                Some(Box::new(move |_, _| mode))
            }
            Some(Chmod::Symbolic(text)) => Some(super::symbolic(text)?),
        };
        let as_dir = selected.len() > 1;
        for one in selected {
            if self.build.stopper.is_stopped() {
                return Err(interrupted());
            }
            let manner = copy::Manner { owner, mode: change.as_deref(), link: copy.link, parents: one.base.as_deref() };
            self.build.with_tree(&one.opened, |tree| {
                let mut rest = Vec::new();
                for top in &one.tops {
                    if one.unpack && !top.is_dir && add::is_archive(tree.root, &top.path)? {
                        add::unpack(root, tree.root, &top.path, &copy.to, owner)?;
                    } else {
                        rest.push(top);
                    }
                }
                copy::copy(root, tree, &rest, &copy.to, as_dir || rest.len() > 1, &manner)
            })?;
        }
        Ok(())
    }

    fn run(&self, tip: &mut Tip, run: &Run, shown: &Shown) -> Result<Ended> {
        let build = self.build;
        let mut plain = Run { proxies: Vec::new(), ..run.clone() };
        if run.network == Network::Default {
            plain.network = build.request.network;
        }
        let (mut fast, mut slow, mut all_known) = (Vec::new(), Vec::new(), true);
        for mount in &mut plain.mounts {
            let MountKind::Bind { from, source } = &mut mount.kind else { continue };
            match build.origin_key(from, &tip.platform)? {
                Some(key) => fast.push(key.to_string()),
                None => all_known = false,
            }
            slow.push((from.clone(), source.clone()));
            *from = Origin::Scratch;
        }
        let definition = serde_json::to_vec(&plain).map_err(|e| Error::other("running", "", e))?;
        let parent = tip.key.to_string();
        let fast = all_known.then(|| cache::key(&[b"run", parent.as_bytes(), &definition, fast.join(" ").as_bytes()]));
        if let Some(record) = fast.as_ref().and_then(|key| build.cache.find(key)) {
            return Ok(self.hit(tip, &record));
        }
        let mut keys: Vec<Digest> = fast.into_iter().collect();
        if !slow.is_empty() {
            let mut contents = String::new();
            for (from, source) in &slow {
                let opened = build.opened(from, &tip.platform)?;
                let keep = |_: &[u8]| Verdict::Keep;
                let tops = build.with_tree(&opened, |tree| select::select(tree, "/", &escaped_path(source), false, &keep, Read::Contents))?;
                contents.push_str(&select::digest(&tops).to_string());
            }
            let key = cache::key(&[b"run with", parent.as_bytes(), &definition, contents.as_bytes()]);
            if let Some(record) = build.cache.find(&key) {
                keys.iter().try_for_each(|fast| build.cache.keep(fast, &record))?;
                return Ok(self.hit(tip, &record));
            }
            keys.insert(0, key);
        }
        let Some(next) = keys.first().cloned() else { return Err(Error::other("running", "", "it has no key")) };
        let files = build.files(tip)?;
        let draft = build.workshop()?.draft(&files)?;
        let before = attributes(&draft)?;
        super::run::run(build, run, &files, &draft, &tip.platform, shown)?;
        self.done(tip, &files, draft, keys, next, before)
    }
}

/// A step writes to the store.
fn advised(e: Error) -> Error {
    if matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT)) { e.hint(MAKE_ROOM) } else { e }
}

fn merged(below: &Digest, link: &Digest) -> Digest {
    cache::key(&[b"merge", below.to_string().as_bytes(), link.to_string().as_bytes()])
}

/// A name in which no character is a wildcard.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| if matches!(c, '*' | '?' | '[' | '\\') { vec!['\\', c] } else { vec![c] }).collect()
}

pub(super) fn escaped_path(path: &str) -> String {
    path.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

fn attributes(draft: &Draft) -> Result<(u32, u32, u32)> {
    let path = draft.files();
    let meta = std::fs::metadata(&path).map_err(|e| Error::io(&e, "looking at", path.display().to_string()))?;
    Ok((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()))
}

/// `user[:group]` as BuildKit takes it: a number alone is the group's too. None for "".
pub(super) fn owner(text: &str, root: BorrowedFd) -> Result<Option<(u32, u32)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = text.split(':').next().unwrap_or_default();
    let is_number = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let user = if is_number && !text.contains(':') { user::resolve(&format!("{name}:{name}"), root)? } else { user::resolve(text, root)? };
    ids::ours().check(user.uid, user.gid, "giving files to", text)?;
    Ok(Some((user.uid, user.gid)))
}
