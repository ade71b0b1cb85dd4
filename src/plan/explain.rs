use super::Op;
impl Op { pub fn describe(&self) -> String { format!("{self:?}") } }
pub fn human_field(p: &str) -> String { p.to_string() }
