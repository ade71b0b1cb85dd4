//! The small languages of some arguments: ports, durations, signals, modes, and how Go prints things in a history.

/// `port[-port][/protocol]`, or with a host's part that is ignored → `80/tcp` each.
pub fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = |cause: &str| format!("{text:?} is no port: {cause}; PORT[-PORT][/tcp|udp|sctp] is needed");
    let container = text.rsplit(':').next().unwrap_or_default();
    let (range, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_string() } else { protocol.to_ascii_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong(&format!("the protocol is {protocol:?}")));
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong(&format!("{text:?} is not a number up to 65535")));
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(wrong("it ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

const UNITS: [(&str, f64); 7] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// `1m30s` → nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no duration: numbers with h, m, s, ms behind them are needed, as in 1m30s");
    let mut rest = text;
    let mut sum = 0.0;
    if text == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(wrong)?;
        sum += value * unit;
        rest = &rest[letters..];
    }
    if sum > 9e18 { Err(wrong()) } else { Ok(sum as i64) }
}

/// As Go prints a duration: `1m30s`, `500ms`, `0s`.
pub fn show_duration(nanoseconds: i64) -> String {
    let trim = |value: f64| {
        let text = format!("{value:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    match nanoseconds {
        0 => "0s".into(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", trim(n as f64 / 1e3)),
        n if n < 1_000_000_000 => format!("{}ms", trim(n as f64 / 1e6)),
        n => {
            let (hours, minutes) = (n / 3_600_000_000_000, n / 60_000_000_000 % 60);
            let seconds = trim((n % 60_000_000_000) as f64 / 1e9);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    }
}

const SIGNALS: [&str; 32] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT",
    "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH",
];

/// Whether STOPSIGNAL may name it: a number, or a name with SIG or without, `RTMIN+3`.
pub fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|n| n.is_empty() || n.trim_start_matches(['+', '-']).parse::<u32>().is_ok_and(|n| n <= 30));
    SIGNALS.contains(&name) || ["XCPU", "XFSZ"].contains(&name) || offset("RTMIN") || offset("RTMAX")
}

/// As Go's `%q` of strings: `["a" "b"]`.
pub fn show_quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// As Go's `%v`: `[a b]`.
pub fn show_plain(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("8080:80/tcp").unwrap(), ["80/tcp"]);
        assert_eq!(ports("7000-7002/sctp").unwrap(), ["7000/sctp", "7001/sctp", "7002/sctp"]);
        for bad in ["", "x", "70000", "90-80", "80/icmp", "/tcp", "-", "80-"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanoseconds, shown) in [
            ("30s", 30_000_000_000, "30s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("250ms", 250_000_000, "250ms"),
            ("2s500ms", 2_500_000_000, "2.5s"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
            assert_eq!(show_duration(nanoseconds), shown);
        }
        for bad in ["", "3", "s", "1x", "1s2", "-1s", "1e9h", "1..2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1", "RTMIN", "XCPU"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "SIGNOPE", "-1", "SIG", "RTMINé"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
