//! Short texts of a grammar, that nobody should send: selectors, quantities, times.

use api::quantity::Quantity;
use api::selector::{FieldSelector, LabelSelector};
use api::{Object, resource, time};
use serde_json::json;

use crate::fuzz::bounded;
use crate::harness::{Random, prove};
use crate::mutate::damage;

/// Short texts of a grammar, damaged.
fn fuzz_texts(name: &str, samples: &[&str], check: impl Fn(&str) -> Result<(), String>) {
    let make = |random: &mut Random| {
        let mut text = random.pick(samples).as_bytes().to_vec();
        if random.percent(40) {
            text.push(b',');
            text.extend(random.pick(samples).as_bytes());
        }
        damage(text, random)
    };
    prove(name, make, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        bounded(text.len(), || {
            if let Err(why) = check(&text) {
                panic!("{why}");
            }
        })
    });
}

#[test]
fn label_selectors() {
    let samples = [
        "a=b",
        "a==b",
        "a!=b",
        "a",
        "!a",
        "a in (b,c)",
        "a notin (b, c)",
        "a>1",
        "a<1",
        "x.y/z=w",
        "a in ()",
        "",
    ];
    fuzz_texts("label_selectors", &samples, |text| {
        let _ = LabelSelector::parse(text).map(|parsed| parsed.matches(|_| Some("1")));
        Ok(())
    });
}

#[test]
fn field_selectors() {
    let samples = [
        "metadata.name=a",
        "metadata.namespace!=b",
        "spec.nodeName==n",
        "status.phase=Running",
        "involvedObject.kind=Pod",
        "a=\\,b",
        "type=\\=",
        "",
    ];
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    let object = Object::from_stored(object.to_string().as_bytes(), 1).expect("an object");
    fuzz_texts("field_selectors", &samples, |text| {
        for resource in resource::all() {
            if let Ok(parsed) = FieldSelector::parse(resource, text) {
                let _ = parsed.matches(&object);
            }
        }
        Ok(())
    });
}

#[test]
fn quantities() {
    let samples = [
        "1",
        "0.5",
        "500m",
        "1Gi",
        "64Mi",
        "1e3",
        "1E3",
        "1E",
        "-1n",
        "+.5k",
        "9223372036854775807",
        "1e-9",
        "100u",
        "12e6Ki",
    ];
    fuzz_texts("quantities", &samples, |text| {
        let Ok(quantity) = Quantity::parse(text) else {
            return Ok(());
        };
        let written = quantity.to_string();
        let again = Quantity::parse(&written).map_err(|e| format!("{text:?}: {written:?}: {e}"))?;
        let _ = (
            quantity.value(),
            quantity.milli(),
            quantity.plus(&again),
            quantity.minus(&again),
        );
        match (again == quantity, again.to_string() == written) {
            (true, true) => Ok(()),
            _ => Err(format!("{text:?} is written {written:?}, then {again}")),
        }
    });
}

#[test]
fn times() {
    let whole = |at: jiff::Timestamp| at.as_nanosecond().div_euclid(1_000_000_000);
    let samples = [
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:00:00.123456789+02:00",
        "0001-01-01T00:00:00Z",
        "9999-12-30T00:00:00-23:59",
        "2024-02-29T23:59:60Z",
    ];
    fuzz_texts("times", &samples, |text| {
        let Some(at) = time::parse(text) else {
            return Ok(());
        };
        for written in [time::format(at), time::format_micro(at)] {
            let again = time::parse(&written).ok_or_else(|| format!("{text:?}: {written:?}"))?;
            if whole(again) != whole(at) {
                return Err(format!("{text:?} is written {written:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn durations() {
    let samples = [
        "1h30m",
        "-1.5s",
        "100ms",
        "1us",
        "1µs",
        "5ns",
        "0",
        "2562047h47m16.854775807s",
    ];
    fuzz_texts("durations", &samples, |text| {
        let Some(nanos) = time::parse_duration(text) else {
            return Ok(());
        };
        let written = time::format_duration(nanos);
        match time::parse_duration(&written) == Some(nanos) {
            true => Ok(()),
            false => Err(format!("{text:?} is written {written:?}")),
        }
    });
}
