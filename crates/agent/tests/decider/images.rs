//! Pods whose spec names another image while a container waits for its own, or for anything else.

use expect_test::expect;
use serde_json::json;

use agent::pod::Observation;

use crate::bench::{Bench, check};

impl Bench {
    /// What is planned now, and what is told of the only container after that.
    fn step(&mut self) -> String {
        let plan = self.plan();
        let plan = plan.trim_end().replace('\n', "; ");
        let sought = self.observed.containers["main"].sought.clone();
        let status = self.status().container_statuses.unwrap().remove(0);
        let waiting = status.state.and_then(|s| s.waiting);
        let why = waiting.map(|w| format!(" {}", w.reason.unwrap()));
        let (image, id) = (status.image, status.image_id);
        format!(
            "{plan} | seeks {sought}, has {image}({id}){}\n",
            why.unwrap_or_default()
        )
    }

    fn resolved(&mut self, image: &str) {
        self.see(Observation::ImageReady {
            container: "main".to_owned(),
            image: image.to_owned(),
        });
    }
}

fn waiting() -> Bench {
    let mut b = Bench::new(json!({
        "restartPolicy": "Always",
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.ready();
    b
}

#[test]
fn another_image_is_what_starts_whatever_its_container_waits_for() {
    type Before = fn(&mut Bench);
    let at: [(&str, Before); 5] = [
        ("before anything", |_| {}),
        ("while it is pulled", |b| {
            b.plan();
        }),
        ("once it is there", |b| {
            b.plan();
            b.pulled("main");
        }),
        ("when it could not be had", |b| {
            b.plan();
            b.not_pulled("main", "ErrImagePull", "no such module");
            b.wait(2);
            b.plan();
        }),
        ("when it could not be started", |b| {
            b.plan();
            b.pulled("main");
            b.plan();
            b.not_started("main", "CreateContainerConfigError", "no ConfigMap");
            b.plan();
        }),
    ];
    let mut log = String::new();
    for (when, reach) in at {
        let mut b = waiting();
        reach(&mut b);
        b.set_image("main", "hello:v2");
        log += &format!("{when}\n  {}", b.step());
        // What the other pull comes to is nobody's any more.
        b.resolved("hello:v1");
        log += &format!("  {}", b.step());
        b.resolved("hello:v2");
        log += &format!("  {}", b.step());
        b.started("main");
        log += &format!("  {}", b.step());
    }
    check(
        &log,
        expect![[r#"
        before anything
          EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2() ContainerCreating
          StartContainer { container: "main", attempt: 0 } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2(hello@sha256:aa)
        while it is pulled
          EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2() ContainerCreating
          StartContainer { container: "main", attempt: 0 } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2(hello@sha256:aa)
        once it is there
          EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2() ContainerCreating
          StartContainer { container: "main", attempt: 0 } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2(hello@sha256:aa)
        when it could not be had
          EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2() ContainerCreating
          StartContainer { container: "main", attempt: 0 } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2(hello@sha256:aa)
        when it could not be started
          EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2() ContainerCreating
          StartContainer { container: "main", attempt: 0 } | seeks hello:v2, has hello:v2() ContainerCreating
           | seeks hello:v2, has hello:v2(hello@sha256:aa)
    "#]],
    );
}

#[test]
fn what_runs_is_what_is_told_until_the_other_image_does() {
    let mut b = waiting();
    b.plan();
    b.pulled("main");
    let mut log = b.step();
    b.set_image("main", "hello:v2");
    log += &b.step();
    b.started_from("main", "hello:v1");
    log += &b.step();
    b.end("main", 143, "Error");
    log += &b.step();
    b.pulled("main");
    log += &b.step();
    b.started("main");
    log += &b.step();
    check(
        &log,
        expect![[r#"
        StartContainer { container: "main", attempt: 0 } | seeks hello:v1, has hello:v1() ContainerCreating
         | seeks hello:v1, has hello:v2() ContainerCreating
        end main (Container main definition changed, will be restarted); stop main 30s; requeue +30000ms | seeks hello:v1, has hello:v1(hello@sha256:aa)
        RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" } | seeks hello:v2, has hello:v1(hello@sha256:aa)
        StartContainer { container: "main", attempt: 1 } | seeks hello:v2, has hello:v1(hello@sha256:aa) ContainerCreating
         | seeks hello:v2, has hello:v2(hello@sha256:aa)
    "#]],
    );
}

#[test]
fn an_image_is_looked_at_for_each_start() {
    let mut b = waiting();
    let mut log = b.step();
    b.pulled("main");
    log += &b.step();
    b.not_started("main", "CreateContainerConfigError", "no ConfigMap");
    log += &b.step();
    b.wait(1);
    log += &b.step();
    // What keeps it from starting now is what is told.
    b.not_pulled("main", "ErrImagePull", "no such module");
    log += &b.step();
    check(
        &log,
        expect![[r#"
        EnsureImage { container: "main" } | seeks hello:v1, has hello:v1() ContainerCreating
        StartContainer { container: "main", attempt: 0 } | seeks hello:v1, has hello:v1() ContainerCreating
        requeue +500ms | seeks hello:v1, has hello:v1() CreateContainerConfigError
        EnsureImage { container: "main" } | seeks hello:v1, has hello:v1() CreateContainerConfigError
        requeue +2000ms | seeks hello:v1, has hello:v1() ErrImagePull
    "#]],
    );
}

impl Bench {
    /// Runs for a second and fails.
    fn crash(&mut self) -> String {
        self.wait(1);
        self.end("main", 1, "Error");
        self.step()
    }

    /// A crash loop whose next wait is one of 20 s.
    fn crash_loop() -> Self {
        let mut b = waiting();
        for wait in [0, 10] {
            b.start("main");
            b.crash();
            b.wait(wait);
        }
        b.start("main");
        b
    }
}

#[test]
fn another_image_has_a_crash_loop_of_its_own() {
    let mut b = Bench::crash_loop();
    let mut log = b.crash();
    b.set_image("main", "hello:v2");
    log += &format!("another image while that waits\n{}", b.step());
    b.start("main");
    log += &b.crash();
    // The next agent knows what has failed.
    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    b.see(Observation::AgentRestarted);
    b.see(Observation::VolumesReady(None));
    log += &b.step();
    b.wait(10);
    log += &b.step();

    let mut b = Bench::crash_loop();
    b.set_image("main", "hello:v2");
    log += &format!("another image while it runs\n{}", b.step());
    b.end("main", 143, "Error");
    b.start("main");
    log += &b.crash();
    b.start("main");
    log += &b.crash();
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "main", attempt: 2 }; back-off main +20000ms; requeue +20000ms | seeks hello:v1, has hello:v1(hello@sha256:aa) CrashLoopBackOff
        another image while that waits
        EnsureImage { container: "main" } | seeks hello:v2, has hello:v1(hello@sha256:aa) CrashLoopBackOff
        RemoveContainer { container: "main", attempt: 3 }; back-off main +10000ms; requeue +10000ms | seeks hello:v2, has hello:v2(hello@sha256:aa) CrashLoopBackOff
        back-off main +10000ms; requeue +10000ms | seeks , has hello:v2(hello@sha256:aa) CrashLoopBackOff
        EnsureImage { container: "main" } | seeks hello:v2, has hello:v2(hello@sha256:aa) CrashLoopBackOff
        another image while it runs
        end main (Container main definition changed, will be restarted); stop main 30s; requeue +30000ms | seeks hello:v1, has hello:v1(hello@sha256:aa)
        RemoveContainer { container: "main", attempt: 3 }; EnsureImage { container: "main" } | seeks hello:v2, has hello:v2(hello@sha256:aa)
        RemoveContainer { container: "main", attempt: 4 }; back-off main +10000ms; requeue +10000ms | seeks hello:v2, has hello:v2(hello@sha256:aa) CrashLoopBackOff
    "#]],
    );
}

#[test]
fn another_image_is_pulled_at_once_and_waits_no_longer_than_any() {
    let mut b = waiting();
    let fail = |b: &mut Bench| {
        b.plan();
        b.not_pulled("main", "ErrImagePull", "no such module");
        let shown = b.step();
        b.wait(2);
        shown + &b.step()
    };
    let mut log = fail(&mut b);
    b.wait(8);
    log += &fail(&mut b);
    b.set_image("main", "hello:v2");
    log += &format!("another\n{}", b.step());
    log += &fail(&mut b);
    check(
        &log,
        expect![[r#"
        requeue +2000ms | seeks hello:v1, has hello:v1() ErrImagePull
        AnnounceImageBackOff { container: "main", image: "hello:v1" }; requeue +8000ms | seeks hello:v1, has hello:v1() ImagePullBackOff
        requeue +2000ms | seeks hello:v1, has hello:v1() ErrImagePull
        AnnounceImageBackOff { container: "main", image: "hello:v1" }; requeue +18000ms | seeks hello:v1, has hello:v1() ImagePullBackOff
        another
        EnsureImage { container: "main" } | seeks hello:v2, has hello:v2() ContainerCreating
        requeue +2000ms | seeks hello:v2, has hello:v2() ErrImagePull
        AnnounceImageBackOff { container: "main", image: "hello:v2" }; requeue +8000ms | seeks hello:v2, has hello:v2() ImagePullBackOff
    "#]],
    );
}
