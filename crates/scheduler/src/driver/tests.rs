use super::*;
use crate::plugins::{Plugin, Plugins, PreFilter};

struct Panicking;

impl Plugin for Panicking {
    fn name(&self) -> &'static str {
        "Panicking"
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        assert!(pod.name.is_empty(), "a test wants a panic");
        PreFilter::Skip
    }
}

#[test]
fn a_pod_that_makes_a_plugin_panic_gets_no_decision() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut snapshot = Snapshot::default();
    snapshot.set_node(Arc::new(Node::default()));
    let mut scheduler = Scheduler::new(Plugins::of(vec![&Panicking]));
    let mut decide = |name: &str| {
        let pod = Pod {
            name: name.to_owned(),
            ..Pod::default()
        };
        super::decide(&mut scheduler, &pod, &mut snapshot, &mut rng)
    };
    assert!(decide("").is_some());
    assert!(decide("poison").is_none());
    assert!(decide("").is_some());
}
