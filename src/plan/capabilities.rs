pub struct CapSet;
pub fn capability_names() -> &'static [&'static str] { &[] }
pub fn parse_capability(_name: &str) -> Option<u32> { None }
