//! The terminal of a container or of an exec'd process.

use super::op::{Op, Step};
use crate::spec::Process;
use crate::{Error, Result};

/// The step that makes the terminal, where one is asked for. `bind`: also as the container's /dev/console.
pub(super) fn step(process: &Process, has_console: bool, bind: bool) -> Result<Option<Step>> {
    const FIELD: &str = "/process/terminal";
    match (process.terminal, has_console) {
        (false, false) => Ok(None),
        (true, true) => {
            let size = process.console_size.clone().unwrap_or_default();
            let op = Op::Console { width: size.width, height: size.height, bind };
            Ok(Some(Step { field: FIELD.into(), op }))
        }
        // The words are runc's: callers know them.
        (true, false) => Err(Error::invalid(FIELD, "cannot allocate tty if dhow will detach without setting console socket")),
        (false, true) => Err(Error::invalid(FIELD, "cannot use console socket if dhow will not detach or allocate tty")),
    }
}
