//! What goes and what stays, as tables.

use images::Digest;
use jiff::{SignedDuration, Timestamp};

use super::select::{Item, Kind, What, excess, select};
use super::thresholds::{Disk, Pressure, Thresholds};
use super::{size, too_little};

const GIB: u64 = 1 << 30;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// An image that was seen and used so many seconds ago, by its name.
fn image(name: &str, gib: u64, seen: i64, used: Option<i64>) -> Item {
    Item {
        what: What::Content(Digest::of(name.as_bytes())),
        kind: Kind::Image,
        size: gib * GIB,
        first_seen: ago(seen),
        last_used: used.map(ago),
        in_use: false,
    }
}

fn path(name: &str, kind: Kind, seen: i64) -> Item {
    Item {
        what: What::Path(name.into()),
        kind,
        ..image(name, 0, seen, None)
    }
}

fn in_use(item: Item) -> Item {
    Item {
        in_use: true,
        ..item
    }
}

fn dangling(item: Item) -> Item {
    Item {
        kind: Kind::Dangling,
        ..item
    }
}

fn disk(available: u64) -> Disk {
    Disk {
        capacity: 100 * GIB,
        available,
        inodes: 1_000_000,
        inodes_free: 900_000,
    }
}

/// The names of what goes, in order.
fn goes(items: &[(&str, Item)], disk: &Disk) -> Vec<String> {
    let all: Vec<_> = items.iter().map(|(_, item)| item.clone()).collect();
    let plan = select(&all, disk, &Thresholds::default(), now());
    plan.iter()
        .map(|remove| {
            let of = items.iter().find(|(_, item)| item.what == remove.what);
            of.unwrap().0.to_owned()
        })
        .collect()
}

#[test]
fn with_room_only_age_counts() {
    let old = |name| image(name, 1, 30 * DAY, Some(7 * DAY));
    let items = [
        ("old", old("old")),
        ("old, in use", in_use(old("old, in use"))),
        ("young", image("young", 1, 30 * DAY, Some(7 * DAY - 1))),
        ("never used", image("never used", 1, 7 * DAY, None)),
        (
            "never used, new",
            image("never used, new", 1, 7 * DAY - 1, None),
        ),
        // As after a clock was set back, or the record lost.
        (
            "found again",
            image("found again", 1, MINUTE, Some(30 * DAY)),
        ),
        ("build", dangling(image("build", 1, 30 * DAY, Some(HOUR)))),
        (
            "last build",
            dangling(image("last build", 1, 30 * DAY, Some(HOUR - 1))),
        ),
        (
            "running build",
            in_use(dangling(image("running build", 1, 30 * DAY, Some(HOUR)))),
        ),
        ("dead", path("dead", Kind::Dead, 0)),
        ("orphan", path("orphan", Kind::Orphan, 2 * MINUTE)),
        ("late", path("late", Kind::Orphan, 2 * MINUTE - 1)),
    ];
    assert_eq!(
        goes(&items, &disk(90 * GIB)),
        ["old", "never used", "build", "dead", "orphan"]
    );
}

#[test]
fn images_go_from_the_high_threshold_down_to_the_low_one() {
    let items = |seen: i64| {
        [
            ("b", image("b", 10, 9 * HOUR, Some(2 * HOUR))),
            ("a", image("a", 10, 8 * HOUR, Some(3 * HOUR))),
            ("used", in_use(image("used", 35, 9 * HOUR, None))),
            ("first", image("first", 10, 9 * HOUR, Some(4 * HOUR))),
            ("then", image("then", 10, 8 * HOUR, Some(4 * HOUR))),
            ("pulled", image("pulled", 10, seen, None)),
        ]
    };
    // 85 GiB are taken. With 15 more there are 100, of which 85 are the high threshold.
    let of = |available: u64, seen: i64| goes(&items(seen), &disk(available));
    assert!(of(16 * GIB, HOUR).is_empty());
    assert_eq!(of(15 * GIB, HOUR), ["pulled"], "5 GiB are enough");
    // What was never used goes first, but not before it had its time.
    assert_eq!(of(15 * GIB, 2 * MINUTE), ["pulled"]);
    assert_eq!(of(15 * GIB, 2 * MINUTE - 1), ["first"]);
    // 89 GiB, of which 71 are the low threshold: 14 are to go.
    assert_eq!(of(4 * GIB, 1), ["first", "then"]);
    // The disk itself has too little room: all that may go.
    assert_eq!(
        of(GIB / 2 - 1, HOUR),
        ["pulled", "first", "then", "a", "b"],
        "and what is used stays"
    );
}

#[test]
fn what_was_used_just_now_does_not_go_for_lack_of_room() {
    let items = [
        ("now", image("now", 1, HOUR, Some(0))),
        ("before", image("before", 1, HOUR, Some(1))),
        ("orphan", path("orphan", Kind::Orphan, 1)),
    ];
    assert_eq!(goes(&items, &disk(0)), ["before"]);
}

#[test]
fn what_age_frees_counts() {
    let items = [
        ("other", image("other", 5, HOUR, Some(HOUR))),
        ("used", in_use(image("used", 70, HOUR, None))),
        ("old", image("old", 10, 30 * DAY, Some(8 * DAY))),
    ];
    assert_eq!(goes(&items, &disk(15 * GIB)), ["old"]);
}

#[test]
fn a_disk_that_others_have_filled_is_none_of_the_images_business() {
    let thresholds = Thresholds::default();
    let items = [image("small", 1, HOUR, Some(HOUR))];
    // 95 % full.
    for (capacity, available) in [
        (250_000_000_000, 12_500_000_000),
        (20_000_000_000, 1_000_000_000),
    ] {
        let disk = Disk {
            capacity,
            available,
            inodes: 0,
            inodes_free: 0,
        };
        assert_eq!(excess(&items, &disk, &thresholds), 0);
        assert!(!thresholds.is_met(&disk));
    }
    assert_eq!(excess(&[], &disk(0), &thresholds), 0);
}

#[test]
fn too_little_room() {
    let thresholds = Thresholds::default();
    let small = |available| Disk {
        capacity: GIB,
        ..disk(available)
    };
    let inodes = |inodes, inodes_free| Disk {
        inodes,
        inodes_free,
        ..disk(90 * GIB)
    };
    for (disk, is_met) in [
        (disk(GIB / 2), false),
        (disk(GIB / 2 - 1), true),
        (small(GIB / 10), false),
        (small(GIB / 10 - 1), true),
        (inodes(1_000_000, 50_000), false),
        (inodes(1_000_000, 49_999), true),
        (inodes(100_000_000, 100_000), false),
        (inodes(100_000_000, 99_999), true),
        (inodes(0, 0), false),
    ] {
        assert_eq!(thresholds.is_met(&disk), is_met, "{disk:?}");
    }
}

#[test]
fn pressure_is_told_until_it_has_been_away_for_a_while() {
    let (mut pressure, thresholds) = (Pressure::default(), Thresholds::default());
    for (seconds, is_met, is_told) in [
        (0, false, false),
        (10, true, true),
        (20, false, true),
        (200, true, true),
        (499, false, true),
        (500, false, false),
        (510, false, false),
        (520, true, true),
        // The clock was an hour ahead, and is set back.
        (-3600, false, true),
        (-3301, false, true),
        (-3300, false, false),
    ] {
        let at = now() + SignedDuration::from_secs(seconds);
        let told = pressure.observe(is_met, &thresholds, at);
        assert_eq!(told, is_told, "{seconds}");
    }
}

#[test]
fn failures_are_told_in_the_kubelets_words() {
    for (bytes, text) in [
        (0, "0.0 B"),
        (1023, "1023.0 B"),
        (1536, "1.5 KiB"),
        (123_480_309_760, "115.0 GiB"),
        (u64::MAX, "16383.9 PiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
    assert_eq!(
        too_little(&disk(5 * GIB), 17),
        "Insufficient free disk space on the node's image filesystem (95% of 100.0 GiB used). Failed to free sufficient \
         space by deleting unused images (freed 17 bytes). Investigate disk usage, as it could be used by active images, \
         logs, volumes, or other data."
    );
}
