//! Hooks in the runtime's namespaces: prestart, createRuntime, poststart, poststop (config.md § POSIX-platform Hooks).

use crate::spec::Hook;
use crate::sys::{fs, process, signal};
use crate::{Error, Kind, Result, log};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// How much of a failing hook's output its error shows.
const OUTPUT_SHOWN: u64 = 2048;

/// Run `hooks` in order, each with `state` on its stdin; the first failure ends it.
pub fn run(phase: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(number, hook)| run_one(phase, number, hook, state))
}

fn run_one(phase: &str, number: usize, hook: &Hook, state: &[u8]) -> Result<()> {
    log::debug(&format!("running {phase} hook #{number}: {}", hook.path));
    let failed = |cause: String| Error::new(Kind::Hook, format!("error running {phase} hook #{number}"), "", format!("{}: {cause}", hook.path));
    let mut output = File::from(fs::memfd(c"hook-output").map_err(|e| failed(e.error("memfd_create", "", "").to_string()))?);
    let sink = || output.try_clone().map(Stdio::from).unwrap_or_else(|_| Stdio::null());
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        use std::os::unix::process::CommandExt;
        command.arg0(name).args(arguments);
    }
    // Without an environment of its own a hook has ours, as with runc.
    if !hook.env.is_empty() {
        command.env_clear();
    }
    command.envs(hook.env.iter().filter_map(|e| e.split_once('=')));
    command.stdin(Stdio::piped()).stdout(sink()).stderr(sink());
    let mut child = command.spawn().map_err(|e| failed(format!("starting it: {}", Error::io(&e, "", "").cause)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook that does not read its state is free not to.
        let _ = stdin.write_all(state);
    }
    let timeout = hook.timeout.map_or(-1, |s| s.saturating_mul(1000).clamp(0, i32::MAX as i64) as i32);
    if timeout >= 0 {
        let pidfd = process::pidfd_open(child.id() as i32).map_err(|e| failed(e.error("pidfd_open", "", "").to_string()))?;
        if signal::poll(&[pidfd.as_fd()], timeout) == Ok(0) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(format!("hook ran past its timeout of {}s and was killed", timeout / 1000)));
        }
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    let _ = output.rewind().and_then(|()| output.take(OUTPUT_SHOWN).read_to_string(&mut said));
    let said = said.trim();
    let status = status.to_string().replace("status: ", "status ");
    Err(failed(format!("{status}{}", if said.is_empty() { String::new() } else { format!(", output: {said}") })))
}
