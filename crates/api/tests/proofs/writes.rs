//! Properties of the write path, over objects of every kind that were grown field by field for as long as they
//! stayed valid.

use api::codec::{self, Format};
use api::schema::{Shape, Type};
use api::{Resource, Status, patch, write};
use serde_json::Value;

use crate::codecs::{difference, resource_of};
use crate::harness::{Input, Random, prove};
use crate::objects::{Taste, conformed, field_value};
use crate::{json_diff, kinds, strategic_diff};

/// Fields that are tried on an object.
const TRIES: usize = 24;

/// A body that can be created.
#[derive(Clone)]
struct Body(Value);

/// A body that can be created, and what it may be updated to.
#[derive(Clone)]
struct Step(Value, Value);

impl Input for Body {
    fn smaller(&self) -> Vec<Self> {
        self.0.smaller().into_iter().map(Body).collect()
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Input for Step {
    fn smaller(&self) -> Vec<Self> {
        let pair = (self.0.clone(), self.1.clone());
        pair.smaller()
            .into_iter()
            .map(|(a, b)| Step(a, b))
            .collect()
    }

    fn show(&self) -> String {
        format!("{}\nto\n{}", self.0.show(), self.1.show())
    }
}

/// Changes a field somewhere in an object of this type: the deeper the likelier.
fn change(ty: &Type, object: &mut Value, random: &mut Random) {
    let Value::Object(map) = object else { return };
    let inner: Vec<_> = ty
        .fields
        .iter()
        .filter(|field| map.get(&*field.name).is_some_and(has_inside))
        .filter(|field| &*field.name != "metadata" || random.percent(10))
        .collect();
    if !inner.is_empty() && random.percent(75) {
        let field = inner[random.below(inner.len())];
        if let Some(value) = map.get_mut(&*field.name)
            && change_inside(&field.shape, value, random)
        {
            return;
        }
    }
    if ty.fields.is_empty() {
        return;
    }
    let field = &ty.fields[random.below(ty.fields.len())];
    if &*field.name == "managedFields" {
        return;
    }
    match field_value(field, Taste::SMALL, random) {
        Some(value) if !random.percent(10) => map.insert(field.name.to_string(), value),
        _ => map.remove(&*field.name),
    };
}

fn has_inside(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn change_inside(shape: &Shape, value: &mut Value, random: &mut Random) -> bool {
    match (shape, value) {
        (Shape::Struct(ty), value) if !ty.fields.is_empty() => {
            change(ty, value, random);
            true
        }
        (Shape::List(item), Value::Array(items)) if !items.is_empty() => {
            let length = items.len();
            if random.percent(20) {
                items.swap(0, random.below(length));
                return true;
            }
            change_inside(item, &mut items[random.below(length)], random)
        }
        _ => false,
    }
}

/// Grows a body, for as long as `fits`.
fn grow(body: &mut Value, random: &mut Random, fits: impl Fn(&Value) -> bool) {
    let Some(resource) = resource_of(body) else {
        return;
    };
    for _ in 0..random.below(TRIES) {
        let mut tried = body.clone();
        change(resource.schema(), &mut tried, random);
        let tried = conformed(resource, tried);
        if fits(&tried) {
            *body = tried;
        }
    }
}

fn body(random: &mut Random) -> Value {
    let all = kinds::all();
    let mut body = all[random.below(all.len())].clone();
    grow(&mut body, random, |body| {
        kinds::created(body.clone()).is_ok()
    });
    body
}

fn step(random: &mut Random) -> Step {
    let before = body(random);
    let mut after = kinds::created(before.clone()).unwrap_or_else(|_| before.clone());
    let old = after.clone();
    grow(&mut after, random, |new| {
        resource_of(new)
            .is_some_and(|r| write::update(r, None, &old, new.clone(), &kinds::by("test")).is_ok())
    });
    Step(before, after)
}

/// The resource, and what is stored of a body; nothing where shrinking left nothing valid.
fn stored(body: &Value) -> Option<(&'static Resource, Value)> {
    let resource = resource_of(body)?;
    Some((resource, kinds::created(body.clone()).ok()?))
}

/// An object without the record of who set what.
fn unrecorded(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}

fn same(left: &Value, right: &Value, what: &str) -> Result<(), String> {
    match difference(left, right, String::new()) {
        None => Ok(()),
        Some(found) => Err(format!("{what}: {found}")),
    }
}

fn said(status: Status) -> String {
    status.message
}

#[test]
fn writing_what_is_stored_changes_nothing() {
    let make = |random: &mut Random| Body(body(random));
    prove("writing_what_is_stored_changes_nothing", make, |body| {
        let Some((resource, live)) = stored(&body.0) else {
            return Ok(());
        };
        let again = write::update(resource, None, &live, live.clone(), &kinds::by("test"));
        same(&live, &again.map_err(said)?, "an update")?;
        // As it comes back from who read it.
        let back = conformed(resource, live.clone());
        let again = write::update(resource, None, &live, back, &kinds::by("test"));
        same(&live, &again.map_err(said)?, "an update, decoded")
    });
}

#[test]
fn a_body_without_its_defaults_is_completed_alike() {
    let make = |random: &mut Random| Body(body(random));
    prove(
        "a_body_without_its_defaults_is_completed_alike",
        make,
        |body| {
            let Some((_, live)) = stored(&body.0) else {
                return Ok(());
            };
            // Created anew of what was made of it: defaults that were filled are filled no more.
            let again = kinds::created(unrecorded(&live)).map_err(said)?;
            same(&unrecorded(&live), &unrecorded(&again), "created again")
        },
    );
}

#[test]
fn applying_what_is_live_changes_nothing() {
    let make = |random: &mut Random| Body(body(random));
    prove("applying_what_is_live_changes_nothing", make, |body| {
        let Some((resource, live)) = stored(&body.0) else {
            return Ok(());
        };
        let yaml = codec::encode(&unrecorded(&live), Format::Yaml).map_err(said)?;
        let decoded = codec::decode_untyped(&yaml, Format::Yaml).map_err(said)?;
        let wanted = decoded.value;
        let by = kinds::by("another");
        let apply = |live: &Value| {
            write::apply(resource, None, Some(live), wanted.clone(), false, &by).map_err(said)
        };
        let applied = apply(&live)?;
        same(&unrecorded(&live), &unrecorded(&applied), "an apply")?;
        same(&applied, &apply(&applied)?, "a second apply")
    });
}

#[test]
fn a_patch_and_the_update_that_it_stands_for_agree() {
    prove(
        "a_patch_and_the_update_that_it_stands_for_agree",
        step,
        |step| {
            let Some((resource, live)) = stored(&step.0) else {
                return Ok(());
            };
            if resource_of(&step.1).is_none_or(|r| !std::ptr::eq(r, resource)) {
                return Ok(());
            }
            let target = conformed(resource, step.1.clone());
            let updated = update(resource, &live, target.clone());
            let mut merged = live.clone();
            patch::merge(&mut merged, json_diff::merge(&live, &target));
            let operations = json_diff::operations(&live, &target);
            let changes = strategic_diff::strategic(resource.schema(), &live, &target);
            let strategic = patch::strategic(resource.schema(), live.clone(), changes.clone());
            let results = [
                ("a merge patch", merged),
                (
                    "a JSON patch",
                    patch::json(live.clone(), &operations).map_err(said)?,
                ),
                (
                    "a strategic merge patch",
                    strategic.map_err(|e| format!("{}: {changes}", e.message))?,
                ),
            ];
            for (what, patched) in results {
                let patched = conformed(resource, patched);
                same(&target, &patched, what)?;
                match (&updated, update(resource, &live, patched)) {
                    (Ok(updated), Ok(patched)) => same(updated, &patched, what)?,
                    (Err(updated), Err(patched)) if *updated == patched => {}
                    (updated, patched) => {
                        return Err(format!("{what}: {updated:?} and {patched:?}"));
                    }
                }
            }
            Ok(())
        },
    );
}

fn update(resource: &Resource, live: &Value, new: Value) -> Result<Value, String> {
    write::update(resource, None, live, new, &kinds::by("test")).map_err(said)
}

#[test]
fn most_drawn_objects_grow() {
    let small = kinds::all();
    let grown = (0..200).filter(|seed| !small.contains(&body(&mut Random::new(*seed))));
    assert!(grown.count() > 120);
    let moved = (0..200).filter(|seed| {
        let step = step(&mut Random::new(*seed));
        kinds::created(step.0).is_ok_and(|live| live != step.1)
    });
    assert!(moved.count() > 120);
}
