//! `kill`: send a signal to a container's init.

use super::Verb;
use super::args::{FlagsEnd, switch};
use super::call::Call;
use anyhow::{Result, bail};

pub(crate) const VERB: Verb = Verb {
    name: "kill",
    about: "send a signal (default: SIGTERM) to a container's init",
    usage: "<container-id> [signal]",
    positionals: (1, 2),
    flags_end: FlagsEnd::AfterFirst,
    flags: || vec![switch("all", "put up with a stopped container (obsolete)").short('a')],
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let signal = match call.positional(1)? {
        None | Some("") => libc::SIGTERM,
        Some(name) => parse_signal(name)?,
    };
    call.context.kill(call.id()?, signal, call.switch("all"))?;
    Ok(0)
}

/// The first and the last real-time signal that libc leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A number, or a name in any case with or without `SIG`, or `RTMIN+n` and `RTMAX-n`. 0 only asks whether it runs.
fn parse_signal(text: &str) -> Result<i32> {
    let number = match text.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => by_name(&text.to_ascii_uppercase()),
    };
    match number {
        Some(number @ 0..=RTMAX) => Ok(number),
        _ => bail!("unknown signal {text:?}"),
    }
}

fn by_name(upper: &str) -> Option<i32> {
    let name = upper.strip_prefix("SIG").unwrap_or(upper);
    let offset = |rest: &str, sign: char| if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<i32>().ok() };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(RTMIN + offset(rest, '+')?).filter(|number| (RTMIN..=RTMAX).contains(number));
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return Some(RTMAX - offset(rest, '-')?).filter(|number| (RTMIN..=RTMAX).contains(number));
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// By name, since the numbers differ between architectures.
const SIGNALS: [(&str, i32); 34] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_by_number_and_by_name() {
        let known = [("9", 9), ("0", 0), ("64", 64), ("KILL", 9), ("SIGKILL", 9), ("sigkill", 9), ("Term", 15), ("usr1", 10)];
        let real_time = [("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmax-14", 50), ("RTMAX", 64)];
        for (text, number) in known.into_iter().chain(real_time) {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn unknown_signals() {
        for text in ["FOO", "SIG", "SIGSIGKILL", "-9", "65", "RTMIN+31", "RTMIN-1", "RTMAX-31", "9 ", ""] {
            let err = parse_signal(text).unwrap_err().to_string();
            assert_eq!(err, format!("unknown signal {text:?}"));
        }
    }
}
