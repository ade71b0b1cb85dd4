//! Which devices a container may open or make: the config's list as a set of exceptions to a default, and v1's files.
//!
//! The meaning of the list is that of the v1 devices controller (cgroup-v1/devices.rst), on v2 too, as with runc: `a`
//! sets the default and forgets all else; any other rule adds an exception, or takes away an exception for exactly
//! the same devices. One thing v1 would silently not do is an error here: taking a part out of a wider exception.

use super::file;
use crate::spec::DeviceRule;
use crate::{Error, Result};
use std::fmt;
use std::path::Path;

/// The kind of a device node. The order is that in which runc sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Block,
    Char,
}

/// Access bits, with the kernel's values (BPF_DEVCG_ACC_*, DEVCG_ACC_*).
pub mod access {
    pub const MKNOD: u8 = 1;
    pub const READ: u8 = 2;
    pub const WRITE: u8 = 4;
    pub const ALL: u8 = 7;
}

/// Which device nodes an exception is about; None is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub kind: Kind,
}

/// All devices are allowed or denied, with exceptions, each with its access bits (never none).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    pub default_allow: bool,
    pub exceptions: Exceptions,
}

/// Access bits by device, in the order in which the config names them: the runtime MUST apply entries in that order
/// (config-linux.md § Allowed Device list), and v1's devices.list shows it.
#[derive(Debug, Clone, Default, Eq)]
pub struct Exceptions(Vec<(Devices, u8)>);

impl Exceptions {
    fn get(&self, devices: &Devices) -> Option<&u8> {
        self.0.iter().find(|(d, _)| d == devices).map(|(_, bits)| bits)
    }

    fn get_mut(&mut self, devices: &Devices) -> Option<&mut u8> {
        self.0.iter_mut().find(|(d, _)| d == devices).map(|(_, bits)| bits)
    }

    fn add(&mut self, devices: Devices, access: u8) {
        match self.get_mut(&devices) {
            Some(bits) => *bits |= access,
            None => self.0.push((devices, access)),
        }
    }

    fn remove(&mut self, devices: &Devices) {
        self.0.retain(|(d, _)| d != devices);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Devices, &u8)> {
        self.0.iter().map(|(devices, bits)| (devices, bits))
    }
}

/// The same devices with the same bits: the kernel may list them in another order.
impl PartialEq for Exceptions {
    fn eq(&self, other: &Exceptions) -> bool {
        self.len() == other.len() && self.iter().all(|(devices, bits)| other.get(devices) == Some(bits))
    }
}

/// Of devices that differ.
#[cfg(test)]
impl FromIterator<(Devices, u8)> for Exceptions {
    fn from_iter<I: IntoIterator<Item = (Devices, u8)>>(list: I) -> Exceptions {
        Exceptions(list.into_iter().collect())
    }
}

/// One command for devices.allow or devices.deny.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// `a`: set the default, forget all exceptions.
    All {
        allow: bool,
    },
    Some {
        allow: bool,
        devices: Devices,
        access: u8,
    },
}

/// What every container gets whatever its config says, as with runc; append them to the config's list. Each is a
/// device of config-linux.md § Default Devices, but for the first two (making nodes harms nobody while opening them is
/// denied) and the last (/dev/net/tun, which Docker's users have relied on since its first days).
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major, minor, access: &str| DeviceRule { allow: true, kind: kind.into(), major, minor, access: access.into() };
    vec![
        rule("c", None, None, "m"),
        rule("b", None, None, "m"),
        rule("c", Some(1), Some(3), "rwm"),    // null
        rule("c", Some(1), Some(8), "rwm"),    // random
        rule("c", Some(1), Some(7), "rwm"),    // full
        rule("c", Some(5), Some(0), "rwm"),    // tty
        rule("c", Some(1), Some(5), "rwm"),    // zero
        rule("c", Some(1), Some(9), "rwm"),    // urandom
        rule("c", Some(136), None, "rwm"),     // pts/*, and the console, which is one
        rule("c", Some(5), Some(2), "rwm"),    // ptmx
        rule("c", Some(10), Some(200), "rwm"), // net/tun
    ]
}

impl RuleSet {
    /// Take the config's list in; before the first rule everything is denied.
    pub fn build(rules: &[DeviceRule]) -> Result<RuleSet> {
        let mut set = RuleSet::default();
        for (n, rule) in rules.iter().enumerate() {
            let step = parse_rule(rule).map_err(|(field, why)| Error::invalid(format!("/linux/resources/devices/{n}{field}"), why))?;
            set.take(step).map_err(|why| Error::invalid(format!("/linux/resources/devices/{n}"), why))?;
        }
        Ok(set)
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::All { allow } => {
                self.default_allow = allow;
                self.exceptions.clear();
                Ok(())
            }
            Step::Some { allow, devices, access } if allow != self.default_allow => {
                self.exceptions.add(devices, access);
                Ok(())
            }
            Step::Some { devices, access, .. } => self.remove(devices, access),
        }
    }

    fn remove(&mut self, devices: Devices, access: u8) -> Result<(), String> {
        let wider = [Devices { major: None, ..devices }, Devices { minor: None, ..devices }, Devices { major: None, minor: None, ..devices }];
        for outer in wider.iter().filter(|outer| **outer != devices) {
            if let Some(held) = self.exceptions.get(outer).filter(|held| *held & access != 0) {
                return Err(format!("cannot punch hole in existing wildcard rule: {} is part of {}", Text(devices, access), Text(*outer, *held)));
            }
        }
        if let Some(held) = self.exceptions.get_mut(&devices) {
            *held &= !access;
            if *held == 0 {
                self.exceptions.remove(&devices);
            }
        }
        Ok(())
    }

    /// devices.list. In a cgroup that allows by default it says `a *:* rwm` alone, and hides the exceptions.
    fn from_list(text: &str) -> Result<RuleSet, String> {
        let mut set = RuleSet::default();
        for line in text.lines() {
            set.take(parse_list_line(line).ok_or_else(|| format!("{line:?} is no device rule"))?)?;
        }
        Ok(set)
    }

    /// The fewest commands that lead from this set to `target`, without a moment in which a device that both allow is
    /// denied, if that can be had.
    fn steps_to(&self, target: &RuleSet) -> Vec<Step> {
        let mut steps = Vec::new();
        let none = Exceptions::default();
        // Where all is allowed we can't see the exceptions, so we have to start anew.
        let old = if self.default_allow || target.default_allow {
            steps.push(Step::All { allow: target.default_allow });
            &none
        } else {
            &self.exceptions
        };
        let mut difference = |from: &Exceptions, to: &Exceptions, allow| {
            for (devices, bits) in from.iter() {
                let access = bits & !to.get(devices).copied().unwrap_or(0);
                if access != 0 {
                    steps.push(Step::Some { allow, devices: *devices, access });
                }
            }
        };
        difference(old, &target.exceptions, target.default_allow);
        difference(&target.exceptions, old, !target.default_allow);
        steps
    }
}

/// Write the rules into devices.allow and devices.deny, and look whether the kernel has them now.
pub fn set_v1(dir: &Path, target: &RuleSet) -> Result<()> {
    let current = || {
        let text = file::read(dir, "devices.list").map_err(|e| file::failure(&e, "reading", dir, "devices.list"))?;
        RuleSet::from_list(&text).map_err(|why| Error::other("parsing", dir.join("devices.list").display().to_string(), why))
    };
    let steps = current()?.steps_to(target);
    write_steps(dir, &steps)?;
    let now = current()?;
    // With allow-all, the list shows only that it is one.
    let precise = if target.default_allow { now.default_allow } else { now == *target };
    match precise {
        true => Ok(()),
        false => {
            Err(Error::other("setting", "/linux/resources/devices", format!("the rules in {}/devices.list are not those that were written", dir.display()))
                .hint("a parent cgroup, or somebody else, restricts the devices further"))
        }
    }
}

fn write_steps(dir: &Path, steps: &[Step]) -> Result<()> {
    let (mut allow_file, mut deny_file) = (None, None);
    for step in steps {
        let (name, slot) = match step {
            Step::All { allow: true } | Step::Some { allow: true, .. } => ("devices.allow", &mut allow_file),
            _ => ("devices.deny", &mut deny_file),
        };
        let fail = |e: std::io::Error| {
            let subject = format!("/linux/resources/devices: writing {step:?} to {}", dir.join(name).display(), step = step.to_string());
            let error = Error::io(&e, "setting", subject);
            match e.raw_os_error() {
                Some(libc::EPERM) => error.hint("the parent cgroup does not allow this device, or the runtime is not root"),
                _ => error,
            }
        };
        // One open file serves for all the lines; each write is a command.
        let out = match slot {
            Some(out) => out,
            None => slot.insert(file::open_to_write(dir, name).map_err(fail)?),
        };
        file::write_once(out, &step.to_string()).map_err(fail)?;
    }
    Ok(())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Step::All { .. } => f.write_str("a *:* rwm"),
            Step::Some { devices, access, .. } => Text(*devices, *access).fmt(f),
        }
    }
}

/// `c 1:* rw`.
struct Text(Devices, u8);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or("*".to_string(), |n| n.to_string());
        let kind = if self.0.kind == Kind::Block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{} ", number(self.0.major), number(self.0.minor))?;
        let letters = [(access::READ, "r"), (access::WRITE, "w"), (access::MKNOD, "m")];
        letters.iter().filter(|(bit, _)| self.1 & bit != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// The error is the field in the rule, and what is wrong with it.
fn parse_rule(rule: &DeviceRule) -> Result<Step, (&'static str, String)> {
    if rule.access.is_empty() {
        return Err(("/access", "device access cannot be empty".into()));
    }
    let access = parse_access(&rule.access).ok_or_else(|| ("/access", format!("{:?} holds letters other than r, w, m", rule.access)))?;
    let kind = match rule.kind.as_str() {
        "a" | "" => return Ok(Step::All { allow: rule.allow }),
        "b" => Kind::Block,
        "c" => Kind::Char,
        other => return Err(("/type", format!("invalid cgroup device type {other:?}: it is a, b or c"))),
    };
    let number = |field, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| (field, format!("{n} is no device number"))),
    };
    let devices = Devices { kind, major: number("/major", rule.major)?, minor: number("/minor", rule.minor)? };
    Ok(Step::Some { allow: rule.allow, devices, access })
}

fn parse_access(letters: &str) -> Option<u8> {
    letters.chars().try_fold(0, |bits, letter| {
        Some(
            bits | match letter {
                'r' => access::READ,
                'w' => access::WRITE,
                'm' => access::MKNOD,
                _ => return None,
            },
        )
    })
}

/// `c 1:3 rwm`.
fn parse_list_line(line: &str) -> Option<Step> {
    let mut fields = line.split([' ', ':']);
    let kind = match fields.next()? {
        "a" => return Some(Step::All { allow: true }),
        "b" => Kind::Block,
        "c" => Kind::Char,
        _ => return None,
    };
    let mut number = || match fields.next()? {
        "*" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let devices = Devices { kind, major: number()?, minor: number()? };
    let access = parse_access(fields.next()?).filter(|bits| *bits != 0)?;
    fields.next().is_none().then_some(Step::Some { allow: true, devices, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> DeviceRule {
        let mut fields = text.split([' ', ':']);
        let kind = fields.next().unwrap().to_string();
        let mut number = || fields.next().filter(|n| *n != "*").map(|n| n.parse().unwrap());
        let (major, minor) = (number(), number());
        DeviceRule { allow, kind, major, minor, access: fields.next().unwrap_or("rwm").into() }
    }

    fn built(rules: &[(bool, &str)]) -> Result<RuleSet> {
        RuleSet::build(&rules.iter().map(|(allow, text)| rule(*allow, text)).collect::<Vec<_>>())
    }

    fn lines(from: &RuleSet, to: &RuleSet) -> Vec<String> {
        let sign = |s: &Step| if matches!(s, Step::All { allow: true } | Step::Some { allow: true, .. }) { '+' } else { '-' };
        from.steps_to(to).iter().map(|s| format!("{}{s}", sign(s))).collect()
    }

    #[test]
    fn all_resets_and_rules_merge() {
        let set = built(&[(true, "c 1:3 r"), (false, "a"), (true, "c 1:5 r"), (true, "c 1:5 w"), (true, "b *:* m")]).unwrap();
        let fresh = RuleSet { default_allow: true, ..RuleSet::default() };
        assert_eq!(lines(&fresh, &set), ["-a *:* rwm", "+c 1:5 rw", "+b *:* m"]);
        assert_eq!(lines(&set, &set), [""; 0]);
    }

    #[test]
    fn only_what_changes_is_written() {
        let old = built(&[(true, "c 1:3 rwm"), (true, "c 1:5 rwm")]).unwrap();
        let new = built(&[(true, "c 1:3 rw"), (true, "b 8:0 r")]).unwrap();
        assert_eq!(lines(&old, &new), ["-c 1:3 m", "-c 1:5 rwm", "+b 8:0 r"]);
        let open = built(&[(true, "a"), (false, "c 5:1 w")]).unwrap();
        assert_eq!(lines(&old, &open), ["+a *:* rwm", "-c 5:1 w"]);
    }

    #[test]
    fn no_holes_in_wildcards() {
        for hole in ["c 1:3 r", "c 1:* rwm", "c *:3 w"] {
            let text = built(&[(true, "c *:* rw"), (false, hole)]).unwrap_err().to_string();
            assert!(text.contains("punch hole") && text.contains("/linux/resources/devices/1"), "{text}");
        }
        assert!(built(&[(true, "c *:* rw"), (false, "c 1:3 m")]).is_ok());
        assert_eq!(built(&[(true, "c *:* rw"), (false, "c *:* w")]).unwrap(), built(&[(true, "c *:* r")]).unwrap());
        assert_eq!(built(&[(true, "c 1:3 rw"), (false, "b 1:3 rw")]).unwrap(), built(&[(true, "c 1:3 rw")]).unwrap());
    }

    #[test]
    fn faults_are_told_with_their_place() {
        let bad = [
            (DeviceRule { kind: "c".into(), ..DeviceRule::default() }, "/linux/resources/devices/0/access"),
            (DeviceRule { kind: "p".into(), access: "r".into(), ..DeviceRule::default() }, "/linux/resources/devices/0/type"),
            (DeviceRule { kind: "c".into(), access: "rx".into(), ..DeviceRule::default() }, "/linux/resources/devices/0/access"),
            (DeviceRule { kind: "c".into(), access: "r".into(), major: Some(-2), ..DeviceRule::default() }, "/linux/resources/devices/0/major"),
        ];
        for (rule, pointer) in bad {
            let text = RuleSet::build(&[rule]).unwrap_err().to_string();
            assert!(text.contains(pointer), "{text}");
        }
    }

    #[test]
    fn the_kernels_list_comes_back() {
        let set = RuleSet::from_list("c *:* m\nb *:* m\nc 1:3 rwm\nc 136:* rw\n").unwrap();
        assert_eq!(set, built(&[(true, "c *:* m"), (true, "b *:* m"), (true, "c 1:3 rwm"), (true, "c 136:* rw")]).unwrap());
        assert!(RuleSet::from_list("a *:* rwm\n").unwrap().default_allow);
        assert!(RuleSet::from_list("nonsense\n").is_err());
        assert!(RuleSet::from_list("c 1:3 rwm more\n").is_err());
    }

    #[test]
    fn defaults_stand_alone_and_after_a_privileged_list() {
        let set = RuleSet::build(&default_rules()).unwrap();
        assert_eq!((set.default_allow, set.exceptions.len()), (false, 11));
        let mut privileged = vec![rule(true, "a")];
        privileged.extend(default_rules());
        assert_eq!(RuleSet::build(&privileged).unwrap(), RuleSet { default_allow: true, ..RuleSet::default() });
    }
}
