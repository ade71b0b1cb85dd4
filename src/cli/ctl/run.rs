use super::*;
pub(crate) const VERB: Verb = Verb { name: "run", about: "x", details: "x", ..Verb::BASE };
