//! `ps`: the processes of a container, as the host's ps(1) shows them.

use super::args::{FlagsEnd, format};
use super::call::Call;
use super::{Verb, output};
use anyhow::{Context, Result, anyhow, bail};
use std::process::Command;

pub(crate) const VERB: Verb = Verb {
    name: "ps",
    about: "show the processes of a container",
    usage: "<container-id> [ps options]",
    positionals: (1, usize::MAX),
    flags_end: FlagsEnd::AfterFirst,
    flags: || vec![format(["table", "json"]).short('f')],
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let pids = call.context.pids(call.id()?)?;
    if call.text("format") == Some("json") {
        output::print_json(&pids)?;
        return Ok(0);
    }
    let mut options = call.positionals_from(1)?;
    if options.is_empty() {
        options.push("-ef".into());
    }
    output::print(&only(&pids, &run_ps(&options)?)?)?;
    Ok(0)
}

fn run_ps(options: &[String]) -> Result<String> {
    let done = Command::new("ps").args(options).output().context("running ps")?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        bail!("ps {}: {}: {}", options.join(" "), done.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The title and those lines of `table` whose column PID is one of `pids`.
fn only(pids: &[i32], table: &str) -> Result<String> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID").ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    let mut out = format!("{title}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = field.parse().map_err(|e| anyhow!("unable to parse pid {field:?} of ps: {e}"))?;
        if pids.contains(&pid) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn keeps_the_container_s_lines() {
        let table = "UID   PID  CMD\nroot    1  init PID 7\nroot    7  sh\n\n";
        assert_eq!(only(&[7, 9], table).unwrap(), "UID   PID  CMD\nroot    7  sh\n");
        assert!(only(&[7], "CMD\nsh\n").unwrap_err().to_string().contains("PID"));
        assert!(only(&[7], "CMD PID\nsh x\n").is_err());
    }
}
