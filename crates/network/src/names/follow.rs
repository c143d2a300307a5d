//! External names lead on to other names.

use super::lookup::normal;
use super::{Lookup, Names};

/// How many aliases in a row are followed.
const MOST_ALIASES: usize = 8;

/// A name that is only another word for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// The name that it stands for.
    pub target: String,
}

/// Where a name leads to when its aliases are followed.
#[derive(Clone, Debug)]
pub struct Chain<'a> {
    /// The aliases on the way.
    pub aliases: Vec<Alias>,
    /// What is there in the end.
    pub end: End<'a>,
}

/// The end of a [`Chain`].
#[derive(Clone, Debug)]
pub enum End<'a> {
    /// A name of the cluster's, or one that somebody else knows.
    Name(String, Lookup<'a>),
    /// More aliases than are followed, or a circle of them.
    TooLong,
}

impl Names {
    /// What a full name stands for in the end, where Services that are external names lead on.
    pub fn follow(&self, name: &str) -> Chain<'_> {
        let mut name = normal(name);
        let mut aliases = Vec::new();
        loop {
            let lookup = self.lookup(&name);
            let target = match &lookup {
                Lookup::Node(_, node) => node.alias().map(str::to_owned),
                _ => None,
            };
            let Some(target) = target else {
                let end = End::Name(name, lookup);
                return Chain { aliases, end };
            };
            if aliases.len() == MOST_ALIASES {
                let end = End::TooLong;
                return Chain { aliases, end };
            }
            aliases.push(Alias {
                name,
                target: target.clone(),
            });
            name = target;
        }
    }
}
