//! Which stages are built when, and what they share: independent ones at once, each on a thread of its own.

use super::cache::{self, Cache};
use super::output::{Ended, Output};
use super::tip::{Promise, Tip};
use crate::image::brought::Brought;
use crate::image::build::dockerfile::ignore::Verdict;
use crate::image::build::plan::{Action, HISTORY_COMMENT, Origin, Outline, StageOutline, StagePlan, State};
use crate::image::build::request::{BuildRequest, NamedContext};
use crate::image::layers::{Files, Layers, View, Workshop};
use crate::image::live::{Runtime, own_mounts};
use crate::image::model::History;
use crate::image::progress::Progress;
use crate::image::registry::{Client, Pull};
use crate::image::store::{Hold, Image};
use crate::image::watch::Watch;
use crate::image::{Digest, Platform, Store, ids, pipeline};
use crate::spec::validate::suggest::closest;
use crate::sys::process;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::Scope;

/// unshare(2)'s: a working directory of the thread's own.
const CLONE_FS: u64 = 0x200;

/// What a build works with, beside what is asked for.
pub struct Around {
    pub store: Store,
    pub client: Client,
    pub runtime: Runtime,
    /// Of fetches and pushes.
    pub progress: Progress,
}

/// What ends a build from outside: shared with whoever receives signals.
#[derive(Clone, Default)]
pub struct Stopper {
    stopped: Arc<AtomicBool>,
    /// The containers that run.
    running: Arc<Mutex<Vec<(Runtime, String)>>>,
}

impl Stopper {
    /// End what runs, begin nothing new.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for (runtime, id) in lock(&self.running).iter() {
            runtime.delete(id);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// As long as the result lives, the container is one of those to stop.
    pub(super) fn guard(&self, runtime: &Runtime, id: &str) -> Result<Running<'_>> {
        let mut running = lock(&self.running);
        if self.is_stopped() {
            return Err(interrupted());
        }
        running.push((runtime.clone(), id.to_string()));
        Ok(Running { stopper: self, id: id.to_string() })
    }
}

pub(super) struct Running<'a> {
    stopper: &'a Stopper,
    id: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.stopper.running).retain(|(_, id)| *id != self.id);
    }
}

pub(super) fn interrupted() -> Error {
    Error::other("building", "", "interrupted")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// What the front half knows and the back half asks for.
pub(super) struct Front<'a> {
    pub outline: &'a Outline,
    pub plan: &'a (dyn Fn(usize, State) -> Result<StagePlan> + Sync),
    /// Lines of the Dockerfile, numbered and marked.
    pub excerpt: &'a (dyn Fn(&crate::image::build::plan::Source) -> String + Sync),
    /// Asked with a path below the context.
    pub ignore: &'a (dyn Fn(&[u8]) -> Verdict + Sync),
    /// Its name, for messages.
    pub name: &'a str,
}

/// A local directory that files are taken from.
pub(super) struct Local {
    pub root: File,
    pub ignore: super::Ignore,
}

pub(super) struct Build<'a> {
    pub request: &'a BuildRequest,
    pub around: &'a Around,
    pub front: &'a Front<'a>,
    pub cache: Cache,
    pub output: Output,
    pub stopper: Stopper,
    pub epoch: Option<u64>,
    pub context: File,
    workshop: OnceLock<Workshop>,
    watch: Mutex<Option<Watch>>,
    making: Mutex<()>,
    images: Mutex<BTreeMap<String, Arc<Mutex<Option<Tip>>>>>,
    views: Mutex<BTreeMap<Origin, Arc<View>>>,
    locals: Mutex<BTreeMap<String, Arc<Local>>>,
    stages: BTreeMap<usize, Progressed>,
    _hold: Hold,
}

/// A stage's outcome, when it is there.
#[derive(Default)]
struct Progressed {
    begun: AtomicBool,
    outcome: Mutex<Option<Result<Tip>>>,
    told: Condvar,
}

/// Tells those who wait, also if the thread broke down.
struct Answer<'a>(&'a Progressed);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        lock(&self.0.outcome).get_or_insert_with(|| Err(Error::other("building", "a stage", "a thread of ours broke down")));
        self.0.told.notify_all();
    }
}

impl<'a> Build<'a> {
    pub fn new(
        request: &'a BuildRequest,
        around: &'a Around,
        front: &'a Front<'a>,
        context: &Path,
        stopper: Stopper,
        workshop: Option<Workshop>,
    ) -> Result<Build<'a>> {
        let store = &around.store;
        let hold = store.hold()?;
        let root = File::open(context).map_err(|e| Error::io(&e, "opening the context", context.display().to_string()))?;
        if !root.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::other("opening the context", context.display().to_string(), "it is no directory"));
        }
        let stages = front.outline.stages.iter().chain(&front.outline.spare).map(|stage| (stage.index, Progressed::default())).collect();
        Ok(Build {
            request,
            around,
            front,
            cache: Cache::open(store, request.no_cache, &request.cache_from, &around.client, &around.progress)?,
            output: Output::new(request.progress, around.progress.clone()),
            stopper,
            epoch: front.outline.epoch,
            context: root,
            workshop: workshop.map_or_else(OnceLock::new, OnceLock::from),
            watch: Mutex::default(),
            making: Mutex::default(),
            images: Mutex::default(),
            views: Mutex::default(),
            locals: Mutex::default(),
            stages,
            _hold: hold,
        })
    }

    /// Build all stages; the target's.
    pub fn solve(&self) -> Result<Tip> {
        let outcome = std::thread::scope(|scope| {
            self.front.outline.stages.iter().try_for_each(|stage| self.begin(scope, stage))?;
            // The first that failed says why; the others were stopped because of it.
            let outcomes: Vec<Result<Tip>> = self.front.outline.stages.iter().map(|stage| self.of_stage(stage.index)).collect();
            let failure = outcomes.iter().filter_map(|o| o.as_ref().err()).min_by_key(|e| e.cause == interrupted().cause);
            match failure {
                Some(e) => Err(e.clone()),
                None => outcomes.into_iter().next_back().unwrap_or_else(|| Err(Error::other("building", "", "there is no stage"))),
            }
        })?;
        outcome.settled()?;
        Ok(outcome)
    }

    /// Begin a stage, unless it was begun.
    fn begin<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, stage: &'scope StageOutline) -> Result<()> {
        let Some(progressed) = self.stages.get(&stage.index) else { return Ok(()) };
        if progressed.begun.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let work = move || {
            let answer = Answer(progressed);
            let done = self.stage(scope, stage);
            if done.is_err() {
                self.stopper.stop();
            }
            *lock(&answer.0.outcome) = Some(done);
        };
        std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work).map(drop).map_err(|e| Error::io(&e, "starting a thread", ""))
    }

    /// Of a stage, when it is done.
    pub fn of_stage(&self, index: usize) -> Result<Tip> {
        let Some(progressed) = self.stages.get(&index) else { return Err(Error::other("building", format!("stage {index}"), "it is not in the outline")) };
        let mut outcome = lock(&progressed.outcome);
        loop {
            match &*outcome {
                Some(done) => return done.clone(),
                None => outcome = progressed.told.wait(outcome).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }

    fn stage<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, stage: &'scope StageOutline) -> Result<Tip> {
        process::unshare(CLONE_FS).map_err(|e| e.error("unshare", "building", "a stage"))?;
        let mut tip = self.base(stage)?;
        self.check_platform(stage, &tip);
        let plan = (self.front.plan)(stage.index, tip.state.clone())?;
        plan.warnings.iter().for_each(|w| self.output.note(&format!("{}:{}: {}: {}", self.front.name, w.source.first_line, w.rule, w.message)));
        // A trigger of the base may take something of a stage that nobody else needs.
        let needs = plan.needs();
        let spare = self.front.outline.spare.iter().filter(|spare| needs.contains(&Origin::Stage(spare.index)));
        spare.into_iter().try_for_each(|stage| self.begin(scope, stage))?;
        // As BuildKit counts: FROM an image, and what is done; not what only changes the config.
        let mut number = usize::from(matches!(stage.base, Origin::Image(_) | Origin::Named(_)));
        let count = number + plan.steps.iter().filter(|step| step.action != Action::Config).count();
        for step in &plan.steps {
            if self.stopper.is_stopped() {
                return Err(interrupted());
            }
            number += usize::from(step.action != Action::Config);
            let title = format!("[{} {number}/{count}] {}", stage.name, step.title);
            self.step(scope, &mut tip, step, &title)?;
        }
        tip.state = plan.end;
        Ok(tip)
    }

    fn base(&self, stage: &StageOutline) -> Result<Tip> {
        match &stage.base {
            Origin::Stage(index) => self.of_stage(*index),
            origin => self.tip_of(origin, &stage.platform).map_err(|e| {
                if !self.stopper.is_stopped() {
                    self.output.always(format!("{}\n", (self.front.excerpt)(&stage.source)).as_bytes());
                }
                e.within(&format!("{}:{}", self.front.name, stage.source.first_line))
            }),
        }
    }

    /// An image that is there for one platform alone is taken as it is.
    fn check_platform(&self, stage: &StageOutline, tip: &Tip) {
        let same = tip.platform.os == stage.platform.os && tip.platform.architecture == stage.platform.architecture;
        if !same && matches!(stage.base, Origin::Image(_) | Origin::Named(_)) {
            let (is, wanted, line) = (&tip.platform, &stage.platform, stage.source.first_line);
            self.output.note(&format!("{}:{line}: InvalidBaseImagePlatform: the base image is for {is}, and {wanted} is asked for", self.front.name));
        }
    }

    /// What is in an origin that has layers.
    pub fn tip_of(&self, origin: &Origin, platform: &Platform) -> Result<Tip> {
        match origin {
            Origin::Scratch => Ok(Tip {
                key: cache::key(&[b"scratch"]),
                layers: Vec::new(),
                files: None,
                history: Vec::new(),
                state: State::scratch(),
                platform: platform.clone(),
                created: cache::now(self.epoch.or(Some(0))),
            }),
            Origin::Stage(index) => self.of_stage(*index),
            Origin::Image(name) => self.image(name, name, platform),
            Origin::Named(name) => match self.request.contexts.get(name) {
                Some(NamedContext::Image(reference)) => self.image(&reference.to_string(), name, platform),
                Some(NamedContext::Layout(dir, version)) => {
                    let version = version.trim_start_matches([':', '@']);
                    let colon = if version.is_empty() { "" } else { ":" };
                    self.image(&format!("oci:{}{colon}{version}", dir.display()), name, platform)
                }
                _ => Err(Error::unsupported("building from", name.clone(), "an image as the base of a stage, not a directory")),
            },
            Origin::Context => Err(Error::other("building", "", "the context is no image")),
        }
    }

    /// Each image is looked for once, whoever asks.
    fn image(&self, word: &str, shown: &str, platform: &Platform) -> Result<Tip> {
        let place = lock(&self.images).entry(format!("{word} {platform}")).or_default().clone();
        let mut place = lock(&place);
        if let Some(tip) = &*place {
            return Ok(tip.clone());
        }
        let step = self.output.step(&format!("FROM {shown}"));
        let found = self.fetch(word, platform);
        self.around.progress.end_total();
        step.end(if found.is_ok() { Ended::Done } else { Ended::Failed });
        let image = found.map_err(|e| self.meant_stage(e, shown).within(&format!("FROM {shown}")))?;
        let layers = pipeline::layers(&image)?;
        let chain = super::diff::chain(&layers).unwrap_or_else(|| Digest::of(b""));
        let tip = Tip {
            // Where root is the only owner that there is, other layers come of the same steps.
            key: cache::key(&[if ids::ours().is_single() { b"image of one owner" } else { b"image" }, chain.to_string().as_bytes()]),
            layers: layers.into_iter().map(Promise::kept).collect(),
            files: None,
            history: image.config.history.clone(),
            state: State::of_image(&image.config),
            platform: image.config.platform.clone(),
            created: if image.config.created.is_empty() { cache::now(Some(0)) } else { image.config.created.clone() },
        };
        *place = Some(tip.clone());
        Ok(tip)
    }

    /// It may be no image that was meant.
    fn meant_stage(&self, e: Error, name: &str) -> Error {
        let stages = self.front.outline.stages.iter().chain(&self.front.outline.spare);
        let names: Vec<&str> = stages.map(|stage| stage.name.as_str()).filter(|name| !name.starts_with("stage-")).collect();
        match closest(name, &names) {
            Some(same) if same.eq_ignore_ascii_case(name) => e.hint(format!("the stage {same} can't be meant: it comes later, or is this one")),
            Some(near) => e.hint(format!("did you mean the stage {near}?")),
            None => e,
        }
    }

    fn fetch(&self, word: &str, platform: &Platform) -> Result<Image> {
        let fetch = |store: &Store, reference: &crate::image::Reference, want: &crate::image::registry::Want| {
            Pull::start(&self.around.client, store, reference, want, &self.around.progress)
        };
        let brought = Brought::begin(self.around.store.clone(), word, Some(platform.clone()), self.request.pull, fetch)?;
        let image = brought.image.clone();
        if word.starts_with("oci:") {
            let from = Store::existing(Path::new(word.trim_start_matches("oci:").split(':').next().unwrap_or_default()))?;
            self.around.store.copy_image(&from, &image.descriptor)?;
        }
        brought.settle()?;
        Ok(image)
    }

    /// The place where steps are done; made when the first is.
    pub fn workshop(&self) -> Result<&Workshop> {
        let _one = lock(&self.making);
        if let Some(workshop) = self.workshop.get() {
            return Ok(workshop);
        }
        let workshop = Layers::open(&self.around.store)?.workshop()?;
        Ok(self.workshop.get_or_init(|| workshop))
    }

    /// From here on somebody removes what a kill of us would leave.
    pub fn watched(&self) -> Result<()> {
        let mut watch = lock(&self.watch);
        if watch.is_none() {
            *watch = Some(Watch::start(self.around.store.root())?);
        }
        Ok(())
    }

    /// The files of a stage or an image, unpacked if they weren't yet.
    pub fn files(&self, tip: &mut Tip) -> Result<Files> {
        if let Some(files) = &tip.files {
            return Ok(files.clone());
        }
        let layers = tip.settled()?;
        let open = |layer: &crate::image::Descriptor| Ok(self.around.store.open_blob(&layer.digest)?.into());
        let files = self.workshop()?.provide(&layers, &open)?;
        tip.files = Some(files.clone());
        Ok(files)
    }

    /// An origin with layers, mounted to be read.
    pub fn view(&self, origin: &Origin, platform: &Platform) -> Result<Arc<View>> {
        if let Some(view) = lock(&self.views).get(origin) {
            return Ok(view.clone());
        }
        let mut tip = self.tip_of(origin, platform)?;
        let files = self.files(&mut tip)?;
        let view = Arc::new(self.workshop()?.view(&files)?);
        Ok(lock(&self.views).entry(origin.clone()).or_insert(view).clone())
    }

    /// A directory given by `--build-context`; None if the name is an image's.
    pub fn local(&self, name: &str) -> Result<Option<Arc<Local>>> {
        let Some(NamedContext::Dir(path)) = self.request.contexts.get(name) else { return Ok(None) };
        if let Some(local) = lock(&self.locals).get(name) {
            return Ok(Some(local.clone()));
        }
        let root = File::open(path).map_err(|e| Error::io(&e, "opening the build context", path.display().to_string()))?;
        let local = Arc::new(Local { root, ignore: super::ignore_of(path)? });
        lock(&self.locals).insert(name.to_string(), local.clone());
        Ok(Some(local))
    }

    pub fn add_history(&self, tip: &mut Tip, created_by: &str, empty_layer: bool) {
        let history = History { created: tip.created.clone(), created_by: created_by.into(), comment: HISTORY_COMMENT.into(), empty_layer };
        tip.history.push(history);
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        // Mounts before the directory that they are in.
        lock(&self.views).clear();
    }
}

/// Before any thread is started.
pub(super) fn prepare() -> Result<()> {
    if !crate::image::unpack::are_root() {
        return Err(Error::unsupported("building", "", "root").hint("unshare -r is not enough either: overlay mounts of the store have to be allowed"));
    }
    own_mounts()
}
