//! A set of indexes of an Indexed job, in Kubernetes' notation: `0,2-4,7`.

use std::collections::BTreeSet;
use std::fmt;

/// A set of completion indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Reads `0,2-4,7`; indexes from `limit` on and parts that are no numbers or ranges are left
    /// out.
    pub(crate) fn parse(text: &str, limit: u32) -> Indexes {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
                set.extend((from..=to.min(limit)).filter(|index| *index < limit));
            }
        }
        Indexes(set)
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    pub(crate) fn insert(&mut self, index: u32) {
        self.0.insert(index);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for index in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        let parts: Vec<String> = ranges
            .iter()
            .map(|(from, to)| match to - from {
                0 => from.to_string(),
                1 => format!("{from},{to}"),
                _ => format!("{from}-{to}"),
            })
            .collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn ranges_are_written_as_kubernetes_writes_them() {
        for text in ["", "0", "0,1", "0-2", "0,2-4,7", "3,5,7,8"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(Indexes::parse("1,2,3,9", 10).to_string(), "1-3,9");
    }

    #[test]
    fn nonsense_is_left_out_and_bounded() {
        assert!(Indexes::parse("x,-,2-1", 10).is_empty());
        assert_eq!(Indexes::parse("0-4294967295", 100).len(), 100);
    }
}
