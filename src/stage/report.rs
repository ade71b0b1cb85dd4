//! The sentence for a step that failed: the child sent its number and the errno, the plan knows the rest.
//!
//! runc's words where callers match on them (docs/callers/contract.md): `executable file not found in $PATH`, `permission denied`,
//! `no such file or directory`.

use super::wire::Message;
use crate::error::describe_errno;
use crate::plan::{Op, Plan, Step, human_field};
use crate::sys::process::Exit;
use crate::{Error, Kind};

pub fn sentence(plan: &Plan, message: Message, text: &str) -> Error {
    let errno = message.b;
    let kind = Kind::Kernel { call: "", errno };
    let Some(step) = plan.steps.get(message.a as usize) else {
        return Error::new(kind, "setting up the container", "", describe_errno(errno));
    };
    match &step.op {
        Op::FindProgram { program, .. } => program_error(program, errno),
        Op::Exec { args, .. } => {
            let cause = describe_errno(errno);
            let err = Error::new(kind, format!("exec {}", args.first().map_or("", |a| a)), "", cause);
            match errno {
                libc::ENOEXEC => err.hint("not a program of this machine's architecture, or a script without #!"),
                libc::ENOENT => err.hint("the program is there, but its interpreter (#! or ELF) is not"),
                _ => err,
            }
        }
        Op::Hooks { phase, .. } => {
            // The text begins with the hook's number.
            let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
            let cause = if errno == 0 { rest.to_string() } else { format!("{rest}: {}", describe_errno(errno)) };
            Error::new(Kind::Hook, format!("error running {phase} hook {number}"), "", cause)
        }
        op => {
            let cause = if text.is_empty() { describe_errno(errno) } else { format!("{text}: {}", describe_errno(errno)) };
            Error::new(kind, op.describe(), field(step), cause)
        }
    }
}

fn field(step: &Step) -> String {
    if step.field.is_empty() { String::new() } else { format!("({})", human_field(&step.field)) }
}

/// Go's words for a program that can't be run.
fn program_error(program: &str, errno: i32) -> Error {
    let kind = Kind::Kernel { call: "", errno };
    let doing = format!("exec: {program:?}");
    match errno {
        libc::ENOENT if !program.contains('/') => Error::new(kind, doing, "", "executable file not found in $PATH"),
        libc::ENOENT | libc::ENOTDIR => Error::new(kind, doing, "", format!("stat {program}: {}", describe_errno(errno))),
        // Docker 20.10 knows the second word alone, newer callers the first
        libc::EISDIR => Error::new(kind, doing, "", "is a directory: permission denied"),
        _ => Error::new(kind, doing, "", describe_errno(errno)),
    }
}

/// The child ended without a word while step `number` ran.
pub fn death(plan: &Plan, number: usize, how: Option<Exit>) -> Error {
    let during = plan.steps.get(number).map_or_else(String::new, |step| format!(" while {}", step.op.describe()));
    let how = match how {
        Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
        Some(Exit::Code(code)) => format!("ended with status {code}"),
        None => "ended".to_string(),
    };
    let err = Error::other("container init", "", format!("it {how}{during}"));
    if how.ends_with("signal 9") { err.hint("container init was OOM-killed (memory limit too low?), or somebody killed it") } else { err }
}
