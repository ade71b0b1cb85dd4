//! Which stages a target needs, and what each begins with.

use super::args::{self, Values};
use super::expand::Lexer;
use super::mistake::Mistake;
use super::mount;
use super::parse::{self, Dockerfile, Instruction, Kind, Stage};
use crate::image::build::plan::{Inputs, Origin, Outline, StageOutline, Warning};
use crate::image::{Platform, Reference};
use crate::{Error, Result};
use std::collections::BTreeSet;

/// The stages that `inputs.target` (else the last) needs.
///
/// # Errors
/// There is no such target; a stage needs itself or a later one; a name or platform is none.
pub fn outline(file: &Dockerfile, inputs: &Inputs) -> Result<Outline> {
    let target = target(file, inputs)?;
    let globals = args::globals(file, inputs).map_err(|m| file.error(&m))?;
    let mut warnings = file.warnings.clone();
    let mut all: Vec<StageOutline> = Vec::new();
    for index in 0..file.stages.len() {
        let stage = stage(file, inputs, &globals, &all, index, &mut warnings).map_err(|m| file.error(&m))?;
        all.push(stage);
    }
    let needed = needed(&all, target);
    let unused = args::unused(file, inputs);
    if !unused.is_empty() {
        warnings.push(Warning {
            source: file.stages[target].from.source.clone(),
            rule: parse::UNUSED_BUILD_ARG,
            message: format!("no ARG declares the --build-arg {}", unused.join(", ")),
        });
    }
    let warnings = file.check(warnings)?;
    let (stages, spare) = all.into_iter().partition(|stage| needed.contains(&stage.index));
    Ok(Outline { stages, spare, target, epoch: epoch(inputs, &globals)?, warnings })
}

fn target(file: &Dockerfile, inputs: &Inputs) -> Result<usize> {
    let last = file.stages.len() - 1;
    let Some(name) = &inputs.target else { return Ok(last) };
    let lower = name.to_lowercase();
    let by_name = file.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&lower));
    let by_number = || lower.parse().ok().filter(|number| *number <= last);
    by_name.or_else(by_number).ok_or_else(|| {
        let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let advice = match crate::spec::validate::suggest::closest(&lower, &names) {
            Some(near) => format!("did you mean {near}?"),
            None if names.is_empty() => format!("the stages have no names; their numbers are 0 to {last}"),
            None => format!("there are {}", names.join(", ")),
        };
        Error::usage(format!("--target {name:?}: {} has no such stage", file.name)).hint(advice)
    })
}

/// The target and all that it needs, and so on.
fn needed(all: &[StageOutline], target: usize) -> BTreeSet<usize> {
    let (mut out, mut open) = (BTreeSet::new(), vec![target]);
    while let Some(index) = open.pop() {
        if out.insert(index) {
            let origins = all[index].needs.iter().chain([&all[index].base]);
            open.extend(origins.filter_map(|origin| if let Origin::Stage(other) = origin { Some(*other) } else { None }));
        }
    }
    out
}

fn epoch(inputs: &Inputs, globals: &Values) -> Result<Option<u64>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let text = inputs.args.get(NAME).map(String::as_str).or(globals.get(NAME)).filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(|_| Error::usage(format!("{NAME} is {text:?}")).hint("it is a number of seconds since 1970"))).transpose()
}

fn stage(
    file: &Dockerfile,
    inputs: &Inputs,
    globals: &Values,
    before: &[StageOutline],
    index: usize,
    warnings: &mut Vec<Warning>,
) -> Result<StageOutline, Mistake> {
    let stage = &file.stages[index];
    let name = stage.name.clone().unwrap_or_else(|| format!("stage-{index}"));
    let mut unset = BTreeSet::new();
    let mut expand = |text: &str, warnings: &mut Vec<Warning>| {
        let found = Lexer::new(file.escape).word(text, &globals.lookup()).map_err(|e| stage.from.mistake(e))?;
        for name in &found.missing {
            let message = format!("FROM uses ${name}, which no ARG before the first FROM sets");
            warnings.push(Warning { source: stage.from.source.clone(), rule: "UndefinedArgInFrom", message });
        }
        unset.extend(found.missing);
        Ok(found.text)
    };
    let mut out = StageOutline {
        index,
        name,
        base: Origin::Scratch,
        platform: inputs.target_platform.clone(),
        needs: BTreeSet::new(),
        source: stage.from.source.clone(),
    };
    if is_replaced(stage, inputs) {
        out.base = Origin::Named(stage.name.clone().unwrap_or_default());
        return Ok(out);
    }
    let base = expand(&stage.base, warnings)?;
    if base.is_empty() {
        return Err(stage
            .from
            .mistake(format!("the image is {:?}, which is empty", stage.base))
            .hint("an ARG before the first FROM may give it a value, or --build-arg"));
    }
    let platform = stage.platform.as_ref().map(|text| expand(text, warnings)).transpose()?;
    let wrong = |message: String| {
        let hint =
            unset.iter().next().map_or(String::new(), |name| format!("${name} is not set: an ARG before the first FROM may give it a value, or --build-arg"));
        stage.from.mistake(message).hint(hint)
    };
    out.base = self::base(file, inputs, &base, index).map_err(wrong)?;
    if let Some(platform) = platform {
        out.platform = platform.parse::<Platform>().map_err(|e| wrong(e.to_string()))?;
    } else if let Origin::Stage(other) = out.base {
        out.platform = before[other].platform.clone();
    }
    let triggers = triggers(file, &out.base, &stage.from)?;
    for instruction in triggers.iter().chain(&stage.instructions) {
        for from in froms(instruction) {
            out.needs.insert(origin(file, inputs, &from, index).map_err(|e| instruction.mistake(e))?);
        }
    }
    Ok(out)
}

/// A `--build-context` of the stage's name takes its place.
pub fn is_replaced(stage: &Stage, inputs: &Inputs) -> bool {
    stage.name.as_ref().is_some_and(|name| inputs.contexts.contains(name))
}

/// The triggers that a stage of this file leaves to `FROM` it.
fn triggers(file: &Dockerfile, base: &Origin, from: &Instruction) -> Result<Vec<Instruction>, Mistake> {
    let Origin::Stage(index) = base else { return Ok(Vec::new()) };
    let texts = file.stages[*index].instructions.iter().filter_map(|i| if let Kind::OnBuild(text) = &i.kind { Some(text) } else { None });
    texts.map(|text| parse::trigger(text, from)).collect()
}

/// What an instruction's flags take files from.
fn froms(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy { .. } => instruction.flag("from").map(String::from).into_iter().collect(),
        Kind::Run(_) => instruction.flags("mount").filter_map(mount::from).collect(),
        _ => Vec::new(),
    }
}

/// What FROM means.
fn base(file: &Dockerfile, inputs: &Inputs, name: &str, index: usize) -> Result<Origin, String> {
    if let Some(earlier) = named_before(file, name, index) {
        return Ok(of_stage(file, inputs, earlier));
    }
    if let Some(context) = named_context(inputs, name) {
        return Ok(Origin::Named(context));
    }
    if name == "scratch" { Ok(Origin::Scratch) } else { image(file, name) }
}

/// A stage, or what is given to take its place.
fn of_stage(file: &Dockerfile, inputs: &Inputs, index: usize) -> Origin {
    match &file.stages[index].name {
        Some(name) if is_replaced(&file.stages[index], inputs) => Origin::Named(name.clone()),
        _ => Origin::Stage(index),
    }
}

/// What `--from=NAME` of COPY and mounts means in the stage `index`.
pub fn origin(file: &Dockerfile, inputs: &Inputs, name: &str, index: usize) -> Result<Origin, String> {
    if name.contains('$') && !name.ends_with('$') {
        return Err(format!("from={name}: variables are not expanded here; make a stage with FROM {name} AS … and name that"));
    }
    if let Ok(number) = name.parse::<usize>() {
        return match number {
            n if n < index => Ok(of_stage(file, inputs, n)),
            n if n == index => Err(format!("stage {n} can't take from itself")),
            n => Err(format!("there is no stage {n} before this one; this is stage {index}, and the first is 0")),
        };
    }
    if let Some(earlier) = named_before(file, name, index) {
        return Ok(of_stage(file, inputs, earlier));
    }
    let lower = name.to_lowercase();
    if let Some(later) = file.stages.iter().skip(index).position(|stage| stage.name.as_ref() == Some(&lower)) {
        let what = if later == 0 { "it is this stage itself" } else { "it comes later in the file" };
        return Err(format!("the stage {name:?} can't be used here: {what}"));
    }
    if let Some(context) = named_context(inputs, name) {
        return Ok(Origin::Named(context));
    }
    if name == "scratch" { Ok(Origin::Scratch) } else { image(file, name) }
}

/// The last stage of that name before `index`.
fn named_before(file: &Dockerfile, name: &str, index: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    file.stages[..index].iter().rposition(|stage| stage.name.as_ref() == Some(&lower))
}

/// The `--build-context` of that name; `debian` is also `docker.io/library/debian:latest`.
fn named_context(inputs: &Inputs, name: &str) -> Option<String> {
    let whole = name.parse::<Reference>().ok();
    let is_it = |context: &&String| *context == name || (whole.is_some() && context.parse::<Reference>().ok() == whole);
    inputs.contexts.iter().find(is_it).cloned()
}

fn image(file: &Dockerfile, name: &str) -> Result<Origin, String> {
    match name.parse::<Reference>() {
        Ok(_) => Ok(Origin::Image(name.into())),
        Err(e) => {
            let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let near = crate::spec::validate::suggest::closest(name, &names).map(|near| format!("; did you mean the stage {near}?"));
            Err(format!("{e}{}", near.unwrap_or_default()))
        }
    }
}
