//! What is going on, for whoever watches: bars on a terminal, lines elsewhere, JSON for programs.

use super::digest::Digest;
use super::model::Descriptor;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

/// Takes a line, without its newline.
type Sink = Box<dyn FnMut(&str) + Send>;

/// How progress is shown. Copies show at the same place.
#[derive(Clone)]
pub struct Progress(Arc<Shape>);

enum Shape {
    Quiet,
    Bars(Bars),
    Lines(Mutex<Sink>),
    Json(Mutex<Sink>),
}

/// One for each blob that moves, and below them their total; what has ended is a line above. So it is never more than
/// the terminal has room for, however many layers there are.
struct Bars {
    all: MultiProgress,
    total: Mutex<Option<ProgressBar>>,
    /// They go when they are full: what is there to be read is written in between.
    passing: bool,
}

impl Bars {
    fn with_total<T>(&self, f: impl FnOnce(&ProgressBar) -> T) -> T {
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        f(total.get_or_insert_with(|| self.all.add(bar("total", 0))))
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(total) = self.total.lock().unwrap_or_else(|e| e.into_inner()).take() {
            if self.passing { total.finish_and_clear() } else { total.abandon() }
        }
    }
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It was there already.
    Exists,
    /// Taken over from another repository of the registry.
    Mounted,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Exists => "exists",
            Outcome::Mounted => "mounted",
            Outcome::Failed => "failed",
        }
    }
}

impl Progress {
    pub fn quiet() -> Progress {
        Progress(Arc::new(Shape::Quiet))
    }

    /// On standard error: bars if it is a terminal, else a line for each transfer that ended.
    pub fn to_stderr() -> Progress {
        if std::io::stderr().is_terminal() { Progress::bars(false) } else { Progress::lines_to_stderr() }
    }

    /// The same, beside lines that others write by [`Progress::aside`].
    pub fn beside_lines() -> Progress {
        if std::io::stderr().is_terminal() { Progress::bars(true) } else { Progress::lines_to_stderr() }
    }

    fn bars(passing: bool) -> Progress {
        Progress(Arc::new(Shape::Bars(Bars { all: MultiProgress::new(), total: Mutex::default(), passing })))
    }

    pub fn lines_to_stderr() -> Progress {
        Progress::lines(|line| {
            let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
        })
    }

    pub fn lines(sink: impl FnMut(&str) + Send + 'static) -> Progress {
        Progress(Arc::new(Shape::Lines(Mutex::new(Box::new(sink)))))
    }

    /// An object a line: `{"event":"blob","digest":…,"size":…,"status":"done"}`.
    pub fn json(sink: impl FnMut(&str) + Send + 'static) -> Progress {
        Progress(Arc::new(Shape::Json(Mutex::new(Box::new(sink)))))
    }

    /// Write something, with the bars out of the way.
    pub fn aside(&self, write: impl FnOnce()) {
        match &*self.0 {
            Shape::Bars(bars) => bars.all.suspend(write),
            _ => write(),
        }
    }

    /// All transfers so far have ended; those that come have a total of their own.
    pub fn end_total(&self) {
        if let Shape::Bars(bars) = &*self.0
            && let Some(total) = bars.total.lock().unwrap_or_else(|e| e.into_inner()).take()
        {
            total.finish_and_clear();
        }
    }

    /// Something to say that is no transfer.
    pub fn note(&self, text: &str) {
        match &*self.0 {
            Shape::Quiet | Shape::Json(_) => {}
            Shape::Bars(bars) => {
                let _ = bars.all.println(text);
            }
            Shape::Lines(sink) => write(sink, text),
        }
    }

    /// A blob begins to move.
    pub fn track(&self, descriptor: &Descriptor) -> Tracker {
        let bar = match &*self.0 {
            Shape::Bars(bars) => Some(bars.with_total(|total| {
                total.inc_length(descriptor.size);
                bars.all.insert_before(total, bar(descriptor.digest.short(), descriptor.size))
            })),
            _ => None,
        };
        Tracker { progress: self.clone(), digest: descriptor.digest.clone(), size: descriptor.size, bar }
    }
}

fn write(sink: &Mutex<Sink>, line: &str) {
    if let Ok(mut sink) = sink.lock() {
        sink(line);
    }
}

fn bar(prefix: &str, size: u64) -> ProgressBar {
    let template = "{prefix:12}  {wide_bar}  {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12}";
    // Hidden until it has its place: a bar without one draws itself wherever the cursor is.
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(prefix.to_string());
    bar
}

/// One transfer.
pub struct Tracker {
    progress: Progress,
    digest: Digest,
    size: u64,
    bar: Option<ProgressBar>,
}

impl Tracker {
    /// `count` bytes of it are there.
    pub fn at(&self, count: u64) {
        if let Some(bar) = &self.bar {
            self.total(count, bar.position());
            bar.set_position(count);
        }
    }

    /// This transfer went from `before` to `now`, which is back if it begins anew.
    fn total(&self, now: u64, before: u64) {
        if let Shape::Bars(bars) = &*self.progress.0 {
            bars.with_total(|total| {
                total.inc(now.saturating_sub(before));
                total.set_position(total.position().saturating_sub(before.saturating_sub(now)));
            });
        }
    }

    fn line(&self, word: &str) -> String {
        format!("{}  {:>12} bytes  {word}", self.digest.short(), self.size)
    }

    pub fn finish(self, outcome: Outcome) {
        let word = outcome.word();
        match &*self.progress.0 {
            Shape::Quiet => {}
            Shape::Bars(bars) => {
                if outcome != Outcome::Failed {
                    self.at(self.size);
                }
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                    bars.all.remove(bar);
                }
                // A build writes a line for each step itself.
                if !bars.passing {
                    self.progress.note(&self.line(word));
                }
            }
            Shape::Lines(sink) => write(sink, &self.line(word)),
            Shape::Json(sink) => {
                let event = json!({"event": "blob", "digest": self.digest, "size": self.size, "status": word});
                write(sink, &event.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_objects() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = |seen: &Arc<Mutex<Vec<String>>>| {
            let seen = seen.clone();
            move |line: &str| seen.lock().unwrap().push(line.to_string())
        };
        let descriptor = Descriptor::of("x/y", b"abc");
        for progress in [Progress::lines(sink(&seen)), Progress::json(sink(&seen)), Progress::quiet()] {
            let tracker = progress.track(&descriptor);
            tracker.at(1);
            tracker.finish(Outcome::Exists);
        }
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0], "ba7816bf8f01             3 bytes  exists");
        assert!(seen[1].starts_with("{\"digest\":\"sha256:ba78") && seen[1].contains("\"status\":\"exists\""), "{}", seen[1]);
        assert_eq!(seen.len(), 2);
    }
}
