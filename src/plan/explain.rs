//! A plan as text, for people. (JSON is [`Plan`]'s serde form.)
use super::Plan;
pub fn to_text(_plan: &Plan) -> String { String::new() }
