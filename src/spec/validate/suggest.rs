//! "Did you mean": the known word nearest to one that isn't known.

/// The candidate that `word` was most likely meant to be, if any is near enough.
pub fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    if let Some(same) = candidates.iter().find(|c| c.eq_ignore_ascii_case(word)) {
        return Some(same);
    }
    if word.len() < 2 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    // A slip per three letters is a slip; more is another word.
    let allowed = (word.len() / 3).clamp(1, 3);
    let near = candidates.iter().map(|c| (distance(&lower, &c.to_ascii_lowercase()), *c)).min()?;
    if near.0 <= allowed && near.0 < word.len() - 1 {
        return Some(near.1);
    }
    part(&lower, candidates)
}

/// The name of which `lower` is a part: its end (`NOFILE` of `RLIMIT_NOFILE`), or its start (`net` of `network`).
fn part<'a>(lower: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let end = format!("_{lower}");
    let ends = candidates.iter().filter(|c| c.to_ascii_lowercase().ends_with(&end)).min_by_key(|c| c.len());
    let mut starts = candidates.iter().filter(|c| lower.len() >= 3 && c.to_ascii_lowercase().starts_with(lower));
    match (ends, starts.next(), starts.next()) {
        (Some(found), ..) | (None, Some(found), None) => Some(found),
        _ => None,
    }
}

/// The number of insertions, deletions, substitutions and swaps of neighbours between two words (the restricted
/// Damerau-Levenshtein distance), over bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut cost = (last[j] + usize::from(a[i] != b[j])).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("abc", "", 3), ("mounts", "mount", 1), ("pdi", "pid", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn near_and_far() {
        let known = ["readonly", "path", "RLIMIT_NOFILE", "network"];
        assert_eq!(closest("readOnly", &known), Some("readonly"));
        assert_eq!(closest("pth", &known), Some("path"));
        assert_eq!(closest("NOFILE", &known), Some("RLIMIT_NOFILE"));
        assert_eq!(closest("net", &known), Some("network"));
        assert_eq!(closest("colour", &known), None);
        assert_eq!(closest("x", &["c", "b"]), None);
        assert_eq!(closest("EQ", &["SCMP_CMP_MASKED_EQ", "SCMP_CMP_EQ"]), Some("SCMP_CMP_EQ"));
    }
}
