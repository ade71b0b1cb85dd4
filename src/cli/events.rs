//! `events`: statistics and out-of-memory events, one JSON object a line.

use super::args::{switch, text};
use super::call::Call;
use super::{Verb, output};
use anyhow::{Result, bail};
use std::time::Duration;

pub(crate) const VERB: Verb = Verb {
    name: "events",
    about: "print a container's statistics and out-of-memory events",
    flags: || {
        vec![
            text("interval", "DURATION", "time between two statistics, as 500ms or 1m30s (default: 5s)"),
            switch("stats", "print the statistics once and leave"),
        ]
    },
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let interval = parse_duration(call.text("interval").unwrap_or("5s"))?;
    let interval = Some(interval).filter(|_| !call.switch("stats"));
    let mut printed = Ok(());
    call.context.events(call.id()?, interval, &mut |event| {
        printed = output::print_json(&event);
        printed.is_ok()
    })?;
    printed.map(|()| 0)
}

/// Go's durations: numbers with a unit each, one after the other.
fn parse_duration(text: &str) -> Result<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!("invalid value {text:?} for flag -interval: a number and a unit (ns, us, ms, s, m, h), as in 5s"),
        };
        let Ok(number) = number.parse::<f64>() else {
            bail!("invalid value {text:?} for flag -interval: {number:?} is not a number");
        };
        seconds += number * scale;
        rest = tail;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => bail!("duration interval must be greater than 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_duration;
    use std::time::Duration;

    #[test]
    fn go_durations() {
        for (text, ms) in [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("1.5s", 1500), ("2h", 7_200_000), ("+1s", 1000)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "0", "0s", "5", "5x", "s", "-1s", "1s2", "1..5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
