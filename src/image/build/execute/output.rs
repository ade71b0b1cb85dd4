//! What a build says while it goes on, on standard error: a line for each thing that happens, numbered by step.

use crate::image::build::request::Progress;
use crate::image::progress::Progress as Transfers;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Instant;

/// So much of a step's output is kept to be shown if it fails where it was not shown as it came.
const MOST_KEPT: usize = 64 << 10;

pub(super) struct Output {
    /// Its bars are below what we write.
    transfers: Transfers,
    quiet: bool,
    colour: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: usize,
}

/// A step under way.
pub(super) struct Shown<'o> {
    output: &'o Output,
    number: usize,
    began: Instant,
    kept: Mutex<Vec<u8>>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Cached,
    Failed,
    Stopped,
}

impl Output {
    pub fn new(progress: Progress, transfers: Transfers) -> Output {
        let colour = match progress {
            Progress::Quiet | Progress::Plain => false,
            Progress::Tty => true,
            Progress::Auto => std::io::stderr().is_terminal(),
        };
        Output { transfers, quiet: progress == Progress::Quiet, colour, state: Mutex::default() }
    }

    fn write(&self, text: &[u8]) {
        self.transfers.aside(|| drop(std::io::stderr().lock().write_all(text)));
    }

    /// A line, unless nothing is to be said.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.write(format!("{text}\n").as_bytes());
        }
    }

    /// What has to be seen in any case.
    pub fn always(&self, text: &[u8]) {
        self.write(text);
    }

    pub fn step(&self, title: &str) -> Shown<'_> {
        let number = {
            let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
            state.steps += 1;
            state.steps
        };
        let first = title.lines().next().unwrap_or_default();
        self.note(&self.tinted("1", &format!("#{number} {first}")));
        Shown { output: self, number, began: Instant::now(), kept: Mutex::default() }
    }

    fn tinted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

impl Shown<'_> {
    /// A line of what runs, with its newline or without.
    pub fn line(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if self.output.quiet {
            let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
            kept.extend_from_slice(line);
            kept.push(b'\n');
            let excess = kept.len().saturating_sub(MOST_KEPT);
            kept.drain(..excess);
            return;
        }
        let mut text = format!("#{} {:.3} ", self.number, self.began.elapsed().as_secs_f64()).into_bytes();
        text.extend_from_slice(line);
        text.push(b'\n');
        self.output.write(&text);
    }

    pub fn end(&self, ended: Ended) {
        let (code, word) = match ended {
            Ended::Done => ("32", format!("DONE {:.1}s", self.began.elapsed().as_secs_f64())),
            Ended::Cached => ("36", "CACHED".into()),
            Ended::Failed => ("31", "ERROR".into()),
            Ended::Stopped => ("33", "STOPPED".into()),
        };
        self.output.note(&self.output.tinted(code, &format!("#{} {word}", self.number)));
        if ended == Ended::Failed {
            let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(|e| e.into_inner()));
            self.output.always(&kept);
        }
    }
}
