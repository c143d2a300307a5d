//! What all files together say: which pods there are to be, and what is wrong. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Key;

use super::MOST;
use super::read::StaticPod;

/// Files by their names.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<String, File>);

#[derive(Debug, Default)]
struct File {
    /// What it said when it was last good.
    pod: Option<Arc<StaticPod>>,
    /// Why it is not.
    fault: Option<String>,
}

/// What is to be.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The pods by their names.
    pub(super) pods: BTreeMap<Key, Arc<StaticPod>>,
    /// Of files: what is wrong with each.
    pub(super) faults: BTreeMap<String, String>,
}

impl Files {
    /// The files that earlier runs of the agent knew, of which nothing was read yet.
    pub(super) fn kept(mut pods: Vec<StaticPod>) -> Self {
        // Of two of one file the younger is what it last said.
        pods.sort_by_key(|pod| pod.pod.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let files = pods.into_iter().map(|pod| {
            let (name, pod) = (pod.file.clone(), Some(Arc::new(pod)));
            (name, File { pod, fault: None })
        });
        Self(files.collect())
    }

    /// The files that there are.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Whether a file is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes up what a file says now; `None` where there is none. One that is broken stands for what it said before.
    pub(super) fn take(&mut self, name: &str, said: Option<Result<StaticPod, String>>) {
        let Some(said) = said else {
            self.0.remove(name);
            return;
        };
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            tracing::warn!(name, most = MOST, "a file is one too many and left out");
            return;
        }
        let file = self.0.entry(name.to_owned()).or_default();
        match said {
            Ok(pod) => {
                let is_same = file.pod.as_ref().is_some_and(|old| old.uid() == pod.uid());
                // The same one was seen before, and says when.
                if !is_same {
                    file.pod = Some(Arc::new(pod));
                }
                file.fault = None;
            }
            Err(fault) => file.fault = Some(fault),
        }
    }

    /// What comes of all. Where two files name the same pod, the first of them by their own names has it.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (name, file) in &self.0 {
            let mut fault = file.fault.clone();
            if let Some(pod) = &file.pod {
                let key = Key::of(pod.pod.as_ref());
                match wanted.pods.get(&key) {
                    None => drop(wanted.pods.insert(key, pod.clone())),
                    Some(other) => {
                        let taken = format!("the pod {key} is that of {:?} already", other.file);
                        fault.get_or_insert(taken);
                    }
                }
            }
            if let Some(fault) = fault {
                wanted.faults.insert(name.clone(), fault);
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::read::read;
    use super::*;

    fn said(file: &str, name: &str, image: &str, second: i64) -> Result<StaticPod, String> {
        let text = format!(
            "{{metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        );
        let now = Timestamp::from_second(second).expect("a time");
        read("n1", file, text.as_bytes(), now)
    }

    /// The pods' names, files and images.
    fn pods(files: &Files) -> Vec<String> {
        let pods = files.wanted().pods;
        let line = |(key, found): (&Key, &Arc<StaticPod>)| {
            let image = &found.object["spec"]["containers"][0]["image"];
            format!(
                "{} {} {}",
                key.name,
                found.file,
                image.as_str().unwrap_or_default()
            )
        };
        pods.iter().map(line).collect()
    }

    #[test]
    fn a_broken_file_stands_for_what_it_said() {
        let mut files = Files::default();
        files.take("a.yaml", Some(said("a.yaml", "web", "i:1", 0)));
        files.take("b.yaml", Some(Err("line 3".to_owned())));
        files.take("a.yaml", Some(Err("line 4".to_owned())));
        assert_eq!(pods(&files), ["web-n1 a.yaml i:1"]);
        let faults = files.wanted().faults;
        let faults: Vec<_> = faults
            .iter()
            .map(|(file, why)| format!("{file}: {why}"))
            .collect();
        assert_eq!(faults, ["a.yaml: line 4", "b.yaml: line 3"]);
        files.take("a.yaml", Some(said("a.yaml", "web", "i:2", 0)));
        assert_eq!(pods(&files), ["web-n1 a.yaml i:2"]);
        files.take("b.yaml", None);
        assert!(files.wanted().faults.is_empty());
        files.take("a.yaml", None);
        assert!(pods(&files).is_empty());
        assert_eq!(files.names().count(), 0);
    }

    #[test]
    fn what_was_seen_before_stays_as_it_was_seen() {
        let first = said("a.yaml", "web", "i:1", 1).expect("a pod");
        let mut files = Files::kept(vec![first.clone()]);
        assert_eq!(pods(&files), ["web-n1 a.yaml i:1"]);
        files.take("a.yaml", Some(said("a.yaml", "web", "i:1", 2)));
        let wanted = files.wanted().pods;
        assert_eq!(**wanted.values().next().expect("a pod"), first);
    }

    #[test]
    fn of_two_that_one_file_has_said_the_younger_stands() {
        let [old, new] = [("i:1", 1), ("i:2", 2)]
            .map(|(image, second)| said("a.yaml", "web", image, second).expect("a pod"));
        for kept in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(pods(&Files::kept(kept.into())), ["web-n1 a.yaml i:2"]);
        }
    }

    #[test]
    fn there_are_not_more_files_than_may_be() {
        let mut files = Files::default();
        for number in 0..MOST {
            files.take(&format!("{number}"), Some(Err("broken".to_owned())));
        }
        files.take("a.yaml", Some(said("a.yaml", "web", "i:1", 0)));
        assert!(pods(&files).is_empty());
        files.take("0", None);
        files.take("a.yaml", Some(said("a.yaml", "web", "i:1", 0)));
        assert_eq!(pods(&files), ["web-n1 a.yaml i:1"]);
    }

    #[test]
    fn one_name_is_one_files() {
        let mut files = Files::default();
        for file in ["b.yaml", "a.yaml"] {
            files.take(file, Some(said(file, "web", "i:1", 0)));
        }
        assert_eq!(pods(&files), ["web-n1 a.yaml i:1"]);
        let why = "the pod default/web-n1 is that of \"a.yaml\" already";
        let faults = files.wanted().faults;
        assert_eq!(faults.get("b.yaml").map(String::as_str), Some(why));
        files.take("a.yaml", None);
        assert_eq!(pods(&files), ["web-n1 b.yaml i:1"]);
        assert!(files.wanted().faults.is_empty());
    }
}
