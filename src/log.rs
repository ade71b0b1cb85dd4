//! One line an event, to stderr or to the file that `--log` names, as text or as JSON.
//!
//! The shapes are logrus's, since callers parse them (docs/callers/contract.md): containerd's shim reads JSON lines and takes
//! the last with `"level":"error"`; Podman parses the whole file as **one** JSON object. So a JSON log file of a failed
//! command holds the error's line and nothing else, unless `--debug` asks for more: warnings wait until it is known
//! how the command ends, see [`warn`].

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
    /// `error: …`, for people at a terminal.
    #[cfg(feature = "image")]
    Plain,
}

/// Where lines go and which.
#[derive(Debug, Default)]
pub struct Config {
    /// None: stderr.
    pub file: Option<File>,
    pub format: Format,
    /// Write debug lines as well.
    pub debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Debug,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

static CONFIG: OnceLock<Config> = OnceLock::new();
/// Warnings that wait for the command's end; only of a [`Config::single_object`] log.
static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Set the sink, once; before that (and for ever, if nobody does) lines go to stderr as text.
pub fn configure(config: Config) {
    // A second call would be a mistake of the caller; the first one holds.
    let _ = CONFIG.set(config);
}

/// Whether [`debug`] writes anything: ask before formatting something costly.
pub fn debug_enabled() -> bool {
    config().debug
}

/// What happened, for whoever debugs dhow or a container. Written with `--debug` only.
pub fn debug(message: &str) {
    if debug_enabled() {
        config().write(Level::Debug, message);
    }
}

/// Something was left out or is doubtful; the command goes on. In a JSON log file it is held back until the end.
pub fn warn(message: &str) {
    if config().single_object() {
        if let Ok(mut waiting) = WAITING.lock() {
            waiting.push(message.to_string());
        }
    } else {
        config().write(Level::Warning, message);
    }
}

/// The reason why the command failed: once, as the last line. With a log file it goes to stderr too, in plain words,
/// and so do the warnings that were held back, in front of it.
pub fn error(message: &str) {
    let config = config();
    for warning in take_waiting() {
        to_stderr(&format!("warning: {warning}\n"));
    }
    config.write(Level::Error, message);
    if config.file.is_some() {
        to_stderr(&format!("{message}\n"));
    }
}

/// The command succeeded: write the warnings that were held back.
pub fn finish() {
    for warning in take_waiting() {
        config().write(Level::Warning, &warning);
    }
}

fn config() -> &'static Config {
    static DEFAULT: Config = Config { file: None, format: Format::Text, debug: false };
    CONFIG.get().unwrap_or(&DEFAULT)
}

fn take_waiting() -> Vec<String> {
    WAITING.lock().map(|mut waiting| std::mem::take(&mut *waiting)).unwrap_or_default()
}

impl Config {
    /// A log that somebody may parse as one JSON object.
    fn single_object(&self) -> bool {
        self.file.is_some() && self.format == Format::Json && !self.debug
    }

    /// One write(2) a line, so that lines of several processes don't mix. There is nowhere to report a failure to.
    fn write(&self, level: Level, message: &str) {
        let line = format_line(self.format, level, message, SystemTime::now());
        match &self.file {
            Some(file) => {
                let mut file: &File = file;
                let _ = file.write_all(line.as_bytes());
            }
            None => to_stderr(&line),
        }
    }
}

fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn format_line(format: Format, level: Level, message: &str, now: SystemTime) -> String {
    let (time, level) = (rfc3339(now), level.as_str());
    match format {
        #[cfg(feature = "image")]
        Format::Plain => format!("{level}: {message}\n"),
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", quote_if_needed(message)),
        // A string always serialises.
        Format::Json => {
            let message = serde_json::to_string(message).unwrap_or_default();
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
    }
}

/// logrus leaves a plain word bare and quotes anything else as Go does.
fn quote_if_needed(message: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !message.is_empty() && message.chars().all(plain) {
        return message.to_string();
    }
    let mut out = String::with_capacity(message.len() + 2);
    out.push('"');
    for c in message.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// UTC, whole seconds: `2026-01-31T23:59:59Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = date_of(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date, `days` after 1970-01-01.
fn date_of(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(at(1_709_251_199)), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(at(4_107_542_400)), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn text_quotes_like_logrus() {
        let line = format_line(Format::Text, Level::Error, "no \"x\"\n\x1b", at(0));
        assert_eq!(line, "time=\"1970-01-01T00:00:00Z\" level=error msg=\"no \\\"x\\\"\\n\\x1b\"\n");
        let line = format_line(Format::Text, Level::Warning, "plain-word", at(0));
        assert_eq!(line, "time=\"1970-01-01T00:00:00Z\" level=warning msg=plain-word\n");
    }

    #[test]
    fn json_is_one_object() {
        let line = format_line(Format::Json, Level::Debug, "a \"b\"\nc", at(0));
        assert_eq!(line, "{\"level\":\"debug\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"1970-01-01T00:00:00Z\"}\n");
    }
}
