//! All roles and bindings, in the form in which decisions look for them.
//!
//! Fed by the watch cache with every role and binding; each is parsed once, when it changes. One that
//! cannot be read gives no rights.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use super::GROUP;
use super::rule::{Rule, list};
use crate::authz::Attributes;
use crate::identity::{Identity, SERVICE_ACCOUNT};

/// What an object of the group is; its scope says whether it is one of the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A Role or ClusterRole.
    Role,
    /// A RoleBinding or ClusterRoleBinding.
    Binding,
}

/// The index. Scopes are namespaces; the empty one is the cluster's.
#[derive(Debug, Default)]
pub(crate) struct Index {
    scopes: BTreeMap<String, Scope>,
}

#[derive(Debug, Default)]
struct Scope {
    roles: BTreeMap<String, Vec<Rule>>,
    bindings: BTreeMap<String, Binding>,
    /// Bindings by the names of the users that they are for, service accounts under their user names.
    users: Bindings,
    /// Bindings by the groups that they are for.
    groups: Bindings,
}

/// Names of bindings by those of their subjects.
type Bindings = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

/// A subject as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredRole {
    #[serde(deserialize_with = "list")]
    rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StoredBinding {
    role_ref: RoleRef,
    #[serde(deserialize_with = "list")]
    subjects: Vec<Subject>,
}

/// A binding that gives a user something: as the reason of a decision, in Kubernetes' words.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    namespace: &'a str,
    name: &'a str,
    binding: &'a Binding,
    identity: &'a Identity,
}

/// A role that a binding names and that is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    /// `Role` or `ClusterRole`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Index {
    /// Takes up a role or binding as stored.
    pub(crate) fn put(&mut self, kind: Kind, namespace: &str, name: &str, json: &[u8]) {
        self.remove(kind, namespace, name);
        let scope = self.scopes.entry(namespace.to_owned()).or_default();
        match kind {
            Kind::Role => {
                if let Ok(role) = serde_json::from_slice::<StoredRole>(json) {
                    scope.roles.insert(name.to_owned(), role.rules);
                }
            }
            Kind::Binding => {
                if let Ok(stored) = serde_json::from_slice::<StoredBinding>(json) {
                    scope.bind(namespace, name, stored);
                }
            }
        }
    }

    /// Forgets a role or binding.
    pub(crate) fn remove(&mut self, kind: Kind, namespace: &str, name: &str) {
        let Some(scope) = self.scopes.get_mut(namespace) else {
            return;
        };
        match kind {
            Kind::Role => drop(scope.roles.remove(name)),
            Kind::Binding => scope.unbind(namespace, name),
        }
        if scope.roles.is_empty() && scope.bindings.is_empty() {
            self.scopes.remove(namespace);
        }
    }

    /// The rules of a role. `namespace` is the Role's, or that of the binding that names a ClusterRole.
    pub(crate) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&[Rule]> {
        let scope = match kind {
            "ClusterRole" => "",
            "Role" if !namespace.is_empty() => namespace,
            _ => return None,
        };
        Some(self.scopes.get(scope)?.roles.get(name)?)
    }

    /// What lets the user do this, if anything does. Otherwise the roles that bindings of the user
    /// name and that are not there.
    pub(crate) fn grant<'a>(
        &'a self,
        identity: &'a Identity,
        asked: &Attributes<'a>,
    ) -> Result<Source<'a>, BTreeSet<Missing>> {
        self.find(identity, asked.namespace, |rule| rule.allows(asked))
    }

    /// The same of a path that is no resource's.
    pub(crate) fn grant_path<'a>(
        &'a self,
        identity: &'a Identity,
        verb: &str,
        path: &str,
    ) -> Result<Source<'a>, BTreeSet<Missing>> {
        self.find(identity, "", |rule| rule.allows_path(verb, path))
    }

    /// All rules that apply to the user in a namespace, or in the whole cluster if it is empty.
    pub(crate) fn rules<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
    ) -> (Vec<&'a Rule>, BTreeSet<Missing>) {
        let mut rules = Vec::new();
        let mut missing = BTreeSet::new();
        for source in self.bindings(identity, namespace) {
            match source.rules(self) {
                Ok(own) => rules.extend(own),
                Err(role) => drop(missing.insert(role)),
            }
        }
        (rules, missing)
    }

    fn find<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
        allows: impl Fn(&Rule) -> bool,
    ) -> Result<Source<'a>, BTreeSet<Missing>> {
        let mut missing = BTreeSet::new();
        for source in self.bindings(identity, namespace) {
            match source.rules(self) {
                Ok(rules) if rules.iter().any(&allows) => return Ok(source),
                Ok(_) => {}
                Err(role) => drop(missing.insert(role)),
            }
        }
        Err(missing)
    }

    /// The bindings that are for the user: the cluster's first, each kind by name.
    fn bindings<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
    ) -> impl Iterator<Item = Source<'a>> {
        let own = Some(namespace).filter(|ns| !ns.is_empty());
        [Some(""), own].into_iter().flatten().flat_map(move |name| {
            let scope = self.scopes.get(name);
            scope
                .into_iter()
                .flat_map(move |scope| scope.bindings_of(name, identity))
        })
    }
}

impl Scope {
    fn bindings_of<'a>(
        &'a self,
        namespace: &'a str,
        identity: &'a Identity,
    ) -> impl Iterator<Item = Source<'a>> {
        let of_groups = identity.groups.iter().filter_map(|g| self.groups.get(g));
        let names: BTreeSet<&String> = self
            .users
            .get(&identity.user)
            .into_iter()
            .chain(of_groups)
            .flatten()
            .collect();
        names.into_iter().filter_map(move |name| {
            let binding = self.bindings.get(name)?;
            Some(Source {
                namespace,
                name,
                binding,
                identity,
            })
        })
    }

    fn bind(&mut self, namespace: &str, name: &str, stored: StoredBinding) {
        for subject in &stored.subjects {
            if let Some((subjects, key)) = self.place(subject, namespace) {
                subjects.entry(key).or_default().insert(name.to_owned());
            }
        }
        let binding = Binding {
            role: stored.role_ref,
            subjects: stored.subjects,
        };
        self.bindings.insert(name.to_owned(), binding);
    }

    fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.remove(name) else {
            return;
        };
        for subject in &binding.subjects {
            let Some((subjects, key)) = self.place(subject, namespace) else {
                continue;
            };
            if let Some(bindings) = subjects.get_mut(&key) {
                bindings.remove(name);
                if bindings.is_empty() {
                    subjects.remove(&key);
                }
            }
        }
    }

    /// Where the bindings of a subject are kept, and under what. None: it can be nobody.
    fn place(&mut self, subject: &Subject, namespace: &str) -> Option<(&mut Bindings, String)> {
        if subject.kind == "Group" {
            return Some((&mut self.groups, subject.name.clone()));
        }
        Some((&mut self.users, subject.user(namespace)?))
    }
}

impl Subject {
    /// The name of the user that it is, if it is one. A service account without a namespace is of
    /// the binding's.
    fn user(&self, namespace: &str) -> Option<String> {
        match self.kind.as_str() {
            "User" => Some(self.name.clone()),
            "ServiceAccount" => {
                let namespace = self.home(namespace);
                (!namespace.is_empty())
                    .then(|| format!("{SERVICE_ACCOUNT}{namespace}:{}", self.name))
            }
            _ => None,
        }
    }

    fn home<'a>(&'a self, namespace: &'a str) -> &'a str {
        match self.namespace.as_str() {
            "" => namespace,
            own => own,
        }
    }

    fn applies_to(&self, identity: &Identity, namespace: &str) -> bool {
        match self.kind.as_str() {
            "Group" => identity.is_in(&self.name),
            _ => self.user(namespace).is_some_and(|u| u == identity.user),
        }
    }
}

impl<'a> Source<'a> {
    fn rules(&self, index: &'a Index) -> Result<&'a [Rule], Missing> {
        let RoleRef { kind, name } = &self.binding.role;
        index
            .role(kind, self.namespace, name)
            .ok_or_else(|| Missing {
                kind: kind.clone(),
                name: name.clone(),
            })
    }
}

/// `ClusterRoleBinding "x" of ClusterRole "y" to User "bob"`.
impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoleRef { kind, name } = &self.binding.role;
        match self.namespace {
            "" => write!(f, "ClusterRoleBinding {:?}", self.name)?,
            ns => write!(f, "RoleBinding {:?}", format!("{}/{ns}", self.name))?,
        }
        write!(f, " of {kind} {name:?} to ")?;
        let mut subjects = self.binding.subjects.iter();
        let subject = subjects.find(|s| s.applies_to(self.identity, self.namespace));
        match subject {
            Some(subject) if subject.kind == "ServiceAccount" => {
                let home = subject.home(self.namespace);
                write!(f, "ServiceAccount {:?}", format!("{}/{home}", subject.name))
            }
            Some(subject) => write!(f, "{} {:?}", subject.kind, subject.name),
            None => Ok(()),
        }
    }
}

/// What Kubernetes' authorizer says of such a role.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_lowercase();
        write!(f, "{kind}.{GROUP} {:?} not found", self.name)
    }
}
