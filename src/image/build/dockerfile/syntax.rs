//! What may stand in a Dockerfile: the instructions, their flags, how they are written.

/// One instruction.
pub struct Rule {
    pub keyword: &'static str,
    pub usage: &'static str,
    pub flags: &'static [(&'static str, FlagKind)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// `--link`, `--link=false`.
    Switch,
    /// Once.
    Text,
    /// Any number of times.
    List,
}

use FlagKind::{List, Switch, Text};

const HEALTH: &[(&str, FlagKind)] = &[("interval", Text), ("timeout", Text), ("start-period", Text), ("start-interval", Text), ("retries", Text)];
const COPY: &[(&str, FlagKind)] = &[("from", Text), ("chown", Text), ("chmod", Text), ("link", Switch), ("parents", Switch), ("exclude", List)];
const ADD: &[(&str, FlagKind)] =
    &[("chown", Text), ("chmod", Text), ("link", Switch), ("exclude", List), ("checksum", Text), ("keep-git-dir", Switch), ("unpack", Switch)];

const fn rule(keyword: &'static str, usage: &'static str, flags: &'static [(&'static str, FlagKind)]) -> Rule {
    Rule { keyword, usage, flags }
}

pub static RULES: [Rule; 18] = [
    rule("ADD", "ADD [--chown=…] [--chmod=…] [--checksum=…] [--unpack] SOURCE… DESTINATION", ADD),
    rule("ARG", "ARG NAME[=DEFAULT]…", &[]),
    rule("CMD", "CMD [\"program\", \"argument\"…] or CMD COMMAND", &[]),
    rule("COPY", "COPY [--from=…] [--chown=…] [--chmod=…] SOURCE… DESTINATION", COPY),
    rule("ENTRYPOINT", "ENTRYPOINT [\"program\", \"argument\"…] or ENTRYPOINT COMMAND", &[]),
    rule("ENV", "ENV NAME=VALUE…", &[]),
    rule("EXPOSE", "EXPOSE PORT[-PORT][/PROTOCOL]…", &[]),
    rule("FROM", "FROM [--platform=…] IMAGE [AS NAME]", &[("platform", Text)]),
    rule("HEALTHCHECK", "HEALTHCHECK [--interval=…] [--timeout=…] CMD COMMAND or HEALTHCHECK NONE", HEALTH),
    rule("LABEL", "LABEL NAME=VALUE…", &[]),
    rule("MAINTAINER", "MAINTAINER NAME", &[]),
    rule("ONBUILD", "ONBUILD INSTRUCTION", &[]),
    rule("RUN", "RUN [--mount=…] [--network=…] COMMAND or RUN [\"program\", \"argument\"…]", &[("mount", List), ("network", Text), ("security", Text)]),
    rule("SHELL", "SHELL [\"program\", \"argument\"…]", &[]),
    rule("STOPSIGNAL", "STOPSIGNAL SIGNAL", &[]),
    rule("USER", "USER NAME[:GROUP]", &[]),
    rule("VOLUME", "VOLUME PATH… or VOLUME [\"PATH\"…]", &[]),
    rule("WORKDIR", "WORKDIR PATH", &[]),
];

/// The rule of a keyword, however it is cased.
pub fn find(keyword: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.keyword.eq_ignore_ascii_case(keyword))
}

pub fn keywords() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.keyword).collect()
}
