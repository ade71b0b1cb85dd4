//! The golden build plans: what a Dockerfile comes to, as JSON, so that a change of it is seen.
//!
//! Each `conformance/dockerfiles/NAME.Dockerfile` is outlined and planned whole, with what `NAME.inputs.json` says if it
//! is there (`args`, `target`, `platform`, `contexts`, and `images`: configs by reference). Images without a config have
//! an empty one. `DHOW_BLESS=1 cargo test --test dockerfile` writes the answers anew; read the difference.

use dhow::image::build::dockerfile::outline::outline;
use dhow::image::build::dockerfile::parse::Dockerfile;
use dhow::image::build::dockerfile::stage::plan_stage;
use dhow::image::build::plan::{Inputs, Origin, Outline, State};
use dhow::image::{ImageConfig, Platform};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Given {
    args: BTreeMap<String, String>,
    target: Option<String>,
    platform: Option<String>,
    contexts: BTreeSet<String>,
    images: BTreeMap<String, Value>,
}

impl Given {
    fn inputs(&self) -> Inputs {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let target_platform = platform(self.platform.as_deref().unwrap_or("linux/amd64"));
        Inputs {
            args: self.args.clone(),
            target: self.target.clone(),
            build_platform: platform("linux/amd64"),
            target_platform,
            contexts: self.contexts.clone(),
        }
    }

    fn image(&self, name: &str) -> State {
        let config = self.images.get(name).cloned().unwrap_or(json!({}));
        let image = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": config});
        State::of_image(&ImageConfig::parse(image.to_string().as_bytes()).unwrap())
    }
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/dockerfiles")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter_map(|name| name.strip_suffix(".Dockerfile").map(String::from)).collect();
    names.sort();
    names
}

/// The outline and the plans of its stages; or the error.
fn planned(name: &str) -> Value {
    let text = std::fs::read(dir().join(format!("{name}.Dockerfile"))).unwrap();
    let given: Given =
        std::fs::read(dir().join(format!("{name}.inputs.json"))).map_or_else(|_| Given::default(), |text| serde_json::from_slice(&text).unwrap());
    let inputs = given.inputs();
    let planned = Dockerfile::parse("Dockerfile", &text).and_then(|file| {
        let outline: Outline = outline(&file, &inputs)?;
        let mut states: BTreeMap<usize, State> = BTreeMap::new();
        let mut stages = Vec::new();
        for stage in &outline.stages {
            let state = match &stage.base {
                Origin::Stage(index) => states[index].clone(),
                Origin::Image(name) => given.image(name),
                _ => State::scratch(),
            };
            let plan = plan_stage(&file, &inputs, stage.index, state)?;
            stages.push(serde_json::to_value(&plan).unwrap());
            states.insert(stage.index, plan.end);
        }
        Ok(json!({"outline": outline, "stages": stages}))
    });
    planned.unwrap_or_else(|e| json!({"error": e.to_string().lines().collect::<Vec<_>>()}))
}

#[test]
fn plans_are_as_they_were() {
    let mut wrong = Vec::new();
    for name in names() {
        let file = dir().join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&planned(&name)).unwrap() + "\n";
        if std::env::var_os("DHOW_BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        if golden != text {
            let at = golden.lines().zip(text.lines()).position(|(old, new)| old != new).unwrap_or(golden.lines().count().min(text.lines().count()));
            wrong.push(format!("{name}: line {}: was {:?}, is {:?}", at + 1, golden.lines().nth(at), text.lines().nth(at)));
        }
    }
    assert!(names().len() >= 10, "the Dockerfiles were found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The same text gives the same plan, whatever its lines' ends and a mark at its start.
#[test]
fn line_ends_make_no_difference() {
    for name in names() {
        let text = std::fs::read_to_string(dir().join(format!("{name}.Dockerfile"))).unwrap();
        // A here-document's data keeps its line ends.
        if text.contains("<<") {
            continue;
        }
        let plan = |text: &str| {
            let file = Dockerfile::parse("d", text.as_bytes()).map_err(|e| e.to_string().replace('\r', ""))?;
            let stages: Vec<_> = file
                .stages
                .into_iter()
                .map(|stage| (stage.base, stage.name, stage.instructions.into_iter().map(|i| (i.kind, i.flags)).collect::<Vec<_>>()))
                .collect();
            Ok::<_, String>(format!("{stages:?}"))
        };
        let bom = format!("\u{feff}{text}");
        assert_eq!(plan(&text), plan(&bom), "{name}");
        let windows = text.replace('\n', "\r\n");
        assert_eq!(plan(&text).is_ok(), plan(&windows).is_ok(), "{name}");
        if let (Ok(unix), Ok(windows)) = (plan(&text), plan(&windows)) {
            assert_eq!(unix, windows, "{name}");
        }
    }
}

/// Characters that mean something, for [`mutated`].
const MEANS: &str = "\\`\n\r\t $ {}'\"#<>-=[],:/*?%+@!|é\u{feff}";

/// `text` with a few characters changed, by a generator that `seed` starts.
fn mutated(text: &str, seed: &mut u64) -> String {
    let mut next = |most: usize| {
        // xorshift64
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed % most.max(1) as u64) as usize
    };
    let mut chars: Vec<char> = text.chars().collect();
    let means: Vec<char> = MEANS.chars().collect();
    for _ in 0..1 + next(4) {
        let at = next(chars.len());
        match next(4) {
            0 => drop(chars.drain(at..(at + next(6)).min(chars.len()))),
            1 => chars.truncate(at),
            2 => chars.insert(at, means[next(means.len())]),
            _ => {
                let other = next(chars.len());
                let piece: Vec<char> = chars[other..(other + next(20)).min(chars.len())].to_vec();
                chars.splice(at..at, piece);
            }
        }
        if chars.is_empty() {
            break;
        }
    }
    chars.into_iter().collect()
}

/// Whatever stands in a Dockerfile, there is an answer. (fuzz/ has the same for machines with more time.)
#[test]
fn nothing_makes_it_panic() {
    let (mut seed, mut good) = (0x5eed_5eed_5eed_5eed, 0);
    let inputs = Given::default().inputs();
    for name in names() {
        let text = std::fs::read_to_string(dir().join(format!("{name}.Dockerfile"))).unwrap();
        for _ in 0..400 {
            let text = mutated(&text, &mut seed);
            let Ok(file) = Dockerfile::parse("Dockerfile", text.as_bytes()) else { continue };
            let _ = outline(&file, &inputs);
            for index in 0..file.stages.len() {
                if let Ok(plan) = plan_stage(&file, &inputs, index, State::scratch()) {
                    good += 1;
                    assert!(plan.steps.iter().all(|step| !file.excerpt(&step.source).is_empty()), "{text:?}");
                }
            }
        }
    }
    assert!(good > 1000, "{good} of the changed files could be planned");
}

/// The rows of the table below `heading`, as cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let section = text.split(heading).nth(1).unwrap_or_else(|| panic!("{page} has {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_string()).collect()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn has_test(file: &Path, name: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}() {{")) && text.contains("#[test]"))
}

/// A test as the tables name it.
fn exists(name: &str) -> bool {
    let Some((module, test)) = name.split_once("::") else {
        let own = has_test(&root().join("conformance/dockerfile.rs"), name);
        return own || dir().join(format!("{name}.Dockerfile")).exists() || root().join(format!("fuzz/fuzz_targets/{name}.rs")).exists();
    };
    let unit = root().join("src/image/build/dockerfile").join(module);
    [unit.with_extension("rs"), unit.join("tests.rs"), root().join(format!("integration/{module}.rs"))].iter().any(|file| has_test(file, test))
}

/// Every test in the tables is there; every instruction, flag and kind of mount is in them.
#[test]
fn the_tables_of_features_are_true() {
    let features = table("docs/dockerfile.md", "## Every feature");
    let flags = table("docs/build.md", "## Every flag");
    assert!(features.len() > 30 && flags.len() > 10);
    let unknown: Vec<&str> = features.iter().chain(&flags).flat_map(|row| row[1..].iter().flat_map(|cell| code(cell))).filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "there are no such tests: {unknown:?}");
    let words = |rows: &[Vec<String>]| -> BTreeSet<String> {
        let code = rows.iter().flat_map(|row| code(&row[0])).flat_map(|text| text.split([' ', ',', '=']));
        code.map(str::to_string).collect()
    };
    let known = words(&features);
    let rules = dhow::image::build::dockerfile::syntax::RULES.iter();
    let said = rules.flat_map(|rule| std::iter::once(rule.keyword.to_string()).chain(rule.flags.iter().map(|(flag, _)| format!("--{flag}"))));
    let kinds = ["bind", "cache", "tmpfs", "secret", "ssh"].map(String::from);
    let missing: Vec<String> = said.chain(kinds).filter(|word| !known.contains(word)).collect();
    assert!(missing.is_empty(), "docs/dockerfile.md says nothing of {missing:?}");
    let known = words(&flags);
    let flags_of = |verb: &str| -> Vec<String> {
        let all = dhow::cli::ctl::vocabulary();
        let (_, flags) = all.into_iter().find(|(name, _)| *name == verb).unwrap();
        flags.iter().map(|flag| format!("--{}", flag.long)).collect()
    };
    // Those of every fetch and of every run are not the build's.
    let elsewhere = [flags_of("fetch"), flags_of("run")].concat();
    let missing: Vec<String> = flags_of("build").into_iter().filter(|flag| !known.contains(flag) && !elsewhere.contains(flag)).collect();
    assert!(missing.is_empty(), "docs/build.md says nothing of {missing:?}");
}
