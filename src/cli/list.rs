//! `list`: all containers below `--root`.

use super::args::{format, switch};
use super::call::Call;
use super::{Verb, output};
use crate::Error;
use crate::container::StateReport;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "list",
    about: "list the containers",
    usage: "",
    positionals: (0, 0),
    flags: || vec![format(["table", "json"]).short('f'), switch("quiet", "print the ids only").short('q')],
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    check_root(call)?;
    let all = call.context.list()?;
    if call.switch("quiet") {
        let ids: String = all.iter().map(|state| format!("{}\n", state.id)).collect();
        output::print(&ids)?;
    } else if call.text("format") == Some("json") {
        output::print_json(&all)?;
    } else {
        output::print(&as_table(&all))?;
    }
    Ok(0)
}

/// A default root that isn't there has no containers yet; one that was asked for is a mistake.
fn check_root(call: &Call) -> Result<()> {
    let root = &call.context.root;
    if call.root_given {
        std::fs::read_dir(root).map_err(|e| Error::io(&e, "opening", root.display().to_string()))?;
    }
    Ok(())
}

fn as_table(all: &[StateReport]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from).to_vec();
    let row = |s: &StateReport| vec![s.id.clone(), s.pid.to_string(), s.status.as_str().into(), s.bundle.clone(), s.created.clone(), s.owner.clone()];
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(all.iter().map(row)).collect();
    output::table(&rows)
}
