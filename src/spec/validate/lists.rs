//! Lists of CPUs and memory nodes: `0-3,7`.

/// The highest number that runc takes (`configs.MaxCPU`), far above what Linux can be built for.
const HIGHEST: u32 = 64 * 1024;

/// How many members a list names, or what is wrong with it. Spaces around and empty members between commas are
/// allowed, as runc allows them. Members named twice count twice.
pub fn members(list: &str) -> Result<u64, String> {
    let mut count = 0;
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part:?} runs backwards"));
        }
        count += u64::from(last - first) + 1;
    }
    Ok(count)
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n <= HIGHEST && !text.starts_with('+') => Ok(n),
        Ok(_) => Err(format!("{text:?} is not a number from 0 to {HIGHEST}")),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

/// What is wrong with a list that goes to the kernel as it stands (cpuset(7) § Formats; the kernel's own parser also
/// takes strides, `0-10:2/4`, and `all`, which are left for it to judge).
pub fn fault_for_kernel(list: &str) -> Option<String> {
    let foreign = |c: char| c.is_alphabetic() || c == ':' || c == '/';
    if list.trim().is_empty() {
        return None;
    }
    match members(list) {
        Err(_) if list.split(',').any(|part| part.trim().chars().any(foreign)) => {
            let strange = list.split(',').map(str::trim).find(|p| !(*p == "all" || p.chars().all(|c| "0123456789-:/N".contains(c))))?;
            Some(format!("{strange:?} is neither a number nor a range"))
        }
        Err(why) => Some(why),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_lists() {
        for (list, count) in [("", 0), ("0", 1), ("0-3,7", 5), (" 1 , ,2-2,", 2), ("65536", 1)] {
            assert_eq!(members(list), Ok(count), "{list}");
        }
        for list in ["a", "3-1", "1-", "-1", "1-2-3", "65537", "+1"] {
            assert!(members(list).is_err(), "{list}");
        }
    }

    #[test]
    fn the_kernels_lists() {
        for list in ["0-10:2/4", "all", "0-N", "0,2"] {
            assert_eq!(fault_for_kernel(list), None, "{list}");
        }
        for list in ["some", "3-1", "0;1"] {
            assert!(fault_for_kernel(list).is_some(), "{list}");
        }
    }
}
