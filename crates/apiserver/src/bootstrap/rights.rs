//! Kubernetes' own roles and bindings: made with the cluster, and made whole at every server's start.

use api::write::{self as engine, Context, User};
use api::{Object, Resource, Status};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

use crate::ApiServer;
use crate::ca::MASTERS;
use crate::rbac::defaults;
use crate::rbac::reconcile::{Step, step};
use crate::registry::{Also, Next};

/// How many writes are under way at once: they share the log's syncs.
const AT_ONCE: usize = 64;

/// Puts there what is missing. On all but a cluster's first start that is nothing, and costs reads of
/// this server's own copy only.
///
/// # Errors
///
/// What keeps the store from being read or written.
pub(super) async fn restore(server: &ApiServer) -> Result<(), Status> {
    server.fresh().await?;
    let writes = defaults::objects().into_iter().filter_map(|expected| {
        let (resource, key) = place(&expected)?;
        let stored = server.local(key.as_bytes());
        let whole = stored.is_some_and(|entry| {
            let read = serde_json::from_slice(&entry.value);
            read.is_ok_and(|stored| step(&stored, &expected) == Step::Keep)
        });
        (!whole).then(|| write(server, resource, key, expected))
    });
    stream::iter(writes)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn place(object: &Value) -> Option<(&'static Resource, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let resource = api::resource::by_kind(&text(&object["apiVersion"]), &text(&object["kind"]))?;
    let key = resource.key(metadata["namespace"].as_str(), &text(&metadata["name"]));
    Some((resource, key))
}

/// Writes one of them. May run on every server at once: whoever comes second finds it done.
async fn write(
    server: &ApiServer,
    resource: &'static Resource,
    key: String,
    expected: Value,
) -> Result<(), Status> {
    loop {
        let context = context();
        let mut again = false;
        let judge = |old: Option<&Object>| {
            again = false;
            let also = Also::default();
            let Some(old) = old else {
                let new = engine::create(resource, expected.clone(), &context)?;
                let value = Bytes::from(engine::encode(new)?);
                return Ok(Next::Put { value, also });
            };
            let stored = old
                .value()
                .map_err(|e| Status::internal(format!("a stored object cannot be read: {e}")))?;
            match step(&stored, &expected) {
                Step::Keep => Ok(Next::Keep),
                Step::Update(new) => {
                    let new = engine::update(resource, None, &stored, new, &context)?;
                    let value = Bytes::from(engine::encode(new)?);
                    Ok(Next::Put { value, also })
                }
                Step::Replace => {
                    again = true;
                    let last = Bytes::from(engine::encode(stored)?);
                    Ok(Next::Delete { last, also })
                }
            }
        };
        server.write(&key, false, judge).await?;
        if !again {
            return Ok(());
        }
    }
}

/// Who writes them.
fn context() -> Context {
    let now = Timestamp::now();
    Context {
        now: Timestamp::from_second(now.as_second()).unwrap_or(now),
        uid: uuid::Uuid::new_v4().to_string(),
        // None of them has a generated name.
        suffix: String::new(),
        user: User {
            name: "system:apiserver".to_owned(),
            groups: vec![MASTERS.to_owned()],
            ..User::default()
        },
        manager: "carob-apiserver".to_owned(),
    }
}
