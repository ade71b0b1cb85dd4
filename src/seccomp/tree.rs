//! Ranges of numbers → a search that halves them. A number takes log₂ of the ranges in tests, and the kernel, which
//! runs the filter for each number there is when it is installed, as many.

use super::decision::{Range, Verdict};

#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    Leaf(Verdict),
    /// Numbers from `at` on are `above`.
    Split {
        at: u32,
        below: Box<Node>,
        above: Box<Node>,
    },
    /// `number` alone differs from what is around it.
    Except {
        number: u32,
        then: Verdict,
        otherwise: Verdict,
    },
}

/// The search for `ranges`, which are ascending and not empty.
pub fn build(ranges: &[Range]) -> Node {
    match ranges {
        [(_, verdict)] => Node::Leaf(*verdict),
        [(_, before), (number, then), (end, after)] if before == after && *end == number + 1 => {
            Node::Except { number: *number, then: *then, otherwise: *before }
        }
        _ => {
            let middle = middle(ranges.len());
            Node::Split { at: ranges[middle].0, below: Box::new(build(&ranges[..middle])), above: Box::new(build(&ranges[middle..])) }
        }
    }
}

/// Where to halve `count` ranges: at an odd place, as three ranges can become one [`Node::Except`].
fn middle(count: usize) -> usize {
    match count / 2 {
        half if half % 2 == 0 && half + 1 < count => half + 1,
        half => half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(node: &Node, number: u32) -> Verdict {
        match node {
            Node::Leaf(verdict) => *verdict,
            Node::Split { at, below, above } => find(if number >= *at { above } else { below }, number),
            Node::Except { number: n, then, otherwise } => {
                if n == &number {
                    *then
                } else {
                    *otherwise
                }
            }
        }
    }

    #[test]
    fn every_number_gets_its_range() {
        for count in 1..40u32 {
            let ranges: Vec<Range> = (0..count).map(|i| (i * i, Verdict::Return(i % 3))).collect();
            let node = build(&ranges);
            for number in 0..count * count + 5 {
                let expected = ranges.iter().rev().find(|(start, _)| *start <= number);
                assert_eq!(find(&node, number), expected.unwrap().1, "{number} of {count}");
            }
        }
    }

    #[test]
    fn a_lone_number_takes_one_test() {
        let (a, b) = (Verdict::Return(1), Verdict::Return(2));
        let node = build(&[(0, a), (7, b), (8, a)]);
        assert!(matches!(node, Node::Except { number: 7, .. }));
    }
}
