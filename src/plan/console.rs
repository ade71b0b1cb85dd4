//! The terminal of a container or of an exec'd process.

use super::op::{Op, Step};
use crate::spec::Process;
use crate::{Error, Result};

/// The step that makes the terminal, where one is asked for. `bind`: also as the container's /dev/console. That a socket
/// for one was given without need is the command's to refuse.
pub(super) fn step(process: &Process, has_console: bool, bind: bool) -> Result<Option<Step>> {
    const FIELD: &str = "/process/terminal";
    if !process.terminal {
        return Ok(None);
    }
    if !has_console {
        // The words are runc's: callers know them.
        return Err(Error::invalid(FIELD, "cannot allocate tty if dhow will detach without setting console socket"));
    }
    let size = process.console_size.clone().unwrap_or_default();
    let op = Op::Console { width: size.width, height: size.height, bind };
    Ok(Some(Step { field: FIELD.into(), op }))
}
