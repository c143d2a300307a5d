//! One rule of a role: what it allows, and whether rules cover others.
//!
//! The source of every comparison is Kubernetes' `component-helpers/auth/rbac/validation` and
//! `pkg/apis/rbac/v1/evaluation_helpers.go`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::authz::Attributes;

/// Into how many single rights rules are taken apart at most. A role that needs more is not compared.
const MOST_RIGHTS: usize = 10_000;
/// How many bytes of text these may have at most: what comes of a small body must be small too.
const MOST_BYTES: usize = 1 << 20;
/// How many comparisons of texts they may cost at most: some tens of milliseconds, during which other
/// requests wait.
const MOST_COMPARISONS: usize = 20_000_000;
/// What stands for everything in any field.
const ALL: &str = "*";

/// A rule, as roles list them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(deserialize_with = "list")]
    pub(crate) verbs: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) non_resource_urls: Vec<String>,
}

/// A list that may be null.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Rules that would be taken apart into too many rights.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Rule {
    /// Everything, of resources and of other paths.
    pub(crate) fn everything() -> [Rule; 2] {
        let all = || vec![ALL.to_owned()];
        let resources = Rule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..Rule::default()
        };
        let paths = Rule {
            verbs: all(),
            non_resource_urls: all(),
            ..Rule::default()
        };
        [resources, paths]
    }

    /// Whether it allows a request for a resource.
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && has(&self.api_groups, asked.group)
            && self
                .resources
                .iter()
                .any(|r| matches_resource(r, asked.resource, asked.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == asked.name))
    }

    /// Whether it allows a request for a path that is no resource's.
    pub(crate) fn allows_path(&self, verb: &str, path: &str) -> bool {
        has(&self.verbs, verb) && self.non_resource_urls.iter().any(|url| under(url, path))
    }

    /// Whether it gives all that `other` gives.
    fn covers(&self, other: &Rule) -> bool {
        other.verbs.iter().all(|verb| has(&self.verbs, verb))
            && other
                .api_groups
                .iter()
                .all(|group| has(&self.api_groups, group))
            && other.resources.iter().all(|r| self.covers_resource(r))
            && other
                .non_resource_urls
                .iter()
                .all(|path| self.non_resource_urls.iter().any(|url| under(url, path)))
            && self.covers_names(other)
    }

    /// Looked at last: names may be many, and mostly a verb or a resource decides.
    fn covers_names(&self, other: &Rule) -> bool {
        if self.resource_names.is_empty() || other.resource_names.is_empty() {
            return self.resource_names.is_empty();
        }
        let names = &mut other.resource_names.iter();
        names.all(|name| self.resource_names.contains(name))
    }

    /// `*`, the same, or `*/SUBRESOURCE` for `RESOURCE/SUBRESOURCE`.
    fn covers_resource(&self, wanted: &str) -> bool {
        let any = wanted.split_once('/').map(|(_, sub)| sub);
        self.resources.iter().any(|own| {
            own == ALL || own == wanted || (any.is_some() && own.strip_prefix("*/") == any)
        })
    }

    /// How many single rights it consists of.
    fn count(&self) -> usize {
        let names = self.resource_names.len().max(1);
        let resources = [self.api_groups.len(), self.resources.len(), names];
        let resources = resources.into_iter().fold(1, usize::saturating_mul);
        let objects = resources.saturating_add(self.non_resource_urls.len());
        objects.saturating_mul(self.verbs.len())
    }

    fn fields(&self) -> [&Vec<String>; 5] {
        [
            &self.verbs,
            &self.api_groups,
            &self.resources,
            &self.resource_names,
            &self.non_resource_urls,
        ]
    }

    /// How many texts it consists of.
    fn entries(&self) -> usize {
        self.fields().into_iter().map(Vec::len).sum()
    }

    /// How many texts are compared at most to tell whether it covers `other`.
    fn comparisons(&self, other: &Rule) -> usize {
        let pairs = self.fields().into_iter().zip(other.fields());
        let lists = pairs.map(|(own, wanted)| own.len().saturating_mul(wanted.len()));
        lists.fold(1, usize::saturating_add)
    }

    /// How many bytes of text a single right has at most.
    fn width(&self) -> usize {
        let longest = |list: &Vec<String>| list.iter().map(String::len).max().unwrap_or(0);
        self.fields().into_iter().map(longest).sum()
    }

    /// Its single rights: one group, resource, verb and name each, or one path and verb.
    fn rights(&self) -> impl Iterator<Item = Rule> {
        let one = |text: &String| vec![text.clone()];
        let names: Vec<Vec<String>> = match self.resource_names.as_slice() {
            [] => vec![Vec::new()],
            names => names.iter().map(one).collect(),
        };
        let mut rights = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    rights.extend(names.iter().map(|name| Rule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: name.clone(),
                        ..Rule::default()
                    }));
                }
            }
        }
        for url in &self.non_resource_urls {
            rights.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            }));
        }
        rights.into_iter()
    }

    /// Whether it is about one resource and at most one name, so that only its verbs can be many.
    fn is_simple(&self) -> bool {
        self.non_resource_urls.is_empty()
            && self.api_groups.len() == 1
            && self.resources.len() == 1
            && self.resource_names.len() <= 1
    }
}

/// Which single rights of `wanted` no rule of `held` covers.
///
/// # Errors
///
/// There are too many to compare them.
pub(crate) fn missing<'a>(
    held: &[&Rule],
    wanted: impl IntoIterator<Item = &'a Rule>,
) -> Result<Vec<Rule>, TooMany> {
    let (mut rights, mut bytes) = (MOST_RIGHTS, MOST_BYTES);
    let entries: usize = held.iter().map(|rule| rule.entries()).sum();
    let mut comparisons = MOST_COMPARISONS;
    let mut missing = Vec::new();
    let own: BTreeSet<&Rule> = held.iter().copied().collect();
    for rule in wanted {
        // Mostly a rule is held as it is.
        if own.contains(rule) {
            continue;
        }
        let compared = held.iter().map(|own| own.comparisons(rule));
        let compared = compared.fold(0, usize::saturating_add);
        comparisons = comparisons.checked_sub(compared).ok_or(TooMany)?;
        if held.iter().any(|own| own.covers(rule)) {
            continue;
        }
        let count = rule.count();
        rights = rights.checked_sub(count).ok_or(TooMany)?;
        let size = count.saturating_mul(rule.width());
        bytes = bytes.checked_sub(size).ok_or(TooMany)?;
        let compared = count.saturating_mul(entries);
        comparisons = comparisons.checked_sub(compared).ok_or(TooMany)?;
        let lacking = |right: &Rule| !held.iter().any(|own| own.covers(right));
        missing.extend(rule.rights().filter(lacking));
    }
    Ok(missing)
}

/// The same rights in fewer rules: verbs on the same resource become one rule.
pub(crate) fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let (simple, mut compacted): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(Rule::is_simple);
    let mut by_resource: BTreeMap<_, Rule> = BTreeMap::new();
    for rule in simple {
        let key = (
            rule.api_groups.clone(),
            rule.resources.clone(),
            rule.resource_names.clone(),
        );
        match by_resource.get_mut(&key) {
            None => drop(by_resource.insert(key, rule)),
            Some(there) => {
                for verb in rule.verbs {
                    if !there.verbs.contains(&verb) {
                        there.verbs.push(verb);
                    }
                }
            }
        }
    }
    compacted.extend(by_resource.into_values());
    compacted
}

/// Kubernetes' short form: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts: Vec<String> = fields
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| format!("{name}:{}", quoted(values)))
            .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// A list of texts as Go prints it: `["a" "b"]`.
pub(super) fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

fn matches_resource(own: &str, resource: &str, subresource: &str) -> bool {
    if own == ALL {
        return true;
    }
    if subresource.is_empty() {
        return own == resource;
    }
    own.split_once('/')
        .is_some_and(|(of, sub)| sub == subresource && (of == ALL || of == resource))
}

/// Whether a path is the one that a rule names, or begins as the rule says that ends in `*`.
fn under(url: &str, path: &str) -> bool {
    url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}
