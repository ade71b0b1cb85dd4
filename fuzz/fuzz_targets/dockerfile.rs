//! Any bytes as a Dockerfile: an error or a plan, of which every part can be printed.
#![no_main]

use dhow::image::Platform;
use dhow::image::build::dockerfile::ignore::Patterns;
use dhow::image::build::dockerfile::outline::outline;
use dhow::image::build::dockerfile::parse::Dockerfile;
use dhow::image::build::plan::{Inputs, State};
use dhow::image::build::dockerfile::stage::plan_stage;
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, BTreeSet};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        // The time that it takes goes with the product of both lengths.
        let _ = Patterns::parse(text).map(|patterns| patterns.judge(&data[..data.len().min(40)]));
    }
    let Ok(file) = Dockerfile::parse("Dockerfile", data) else { return };
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() };
    let args = BTreeMap::from([("A".to_string(), "a*b".to_string())]);
    let inputs = Inputs { args, target: None, build_platform: platform.clone(), target_platform: platform, contexts: BTreeSet::new() };
    let _ = outline(&file, &inputs);
    for index in 0..file.stages.len() {
        if let Ok(plan) = plan_stage(&file, &inputs, index, State::scratch()) {
            for step in &plan.steps {
                file.excerpt(&step.source);
            }
            serde_json::to_string(&plan).unwrap();
        }
    }
});
