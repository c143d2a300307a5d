//! The form in which objects are shown: whole, as a table's rows, or their metadata alone.

use std::borrow::Cow;

use api::table::{Frame, Include};
use api::{Object, Resource, Status, codec};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::body::{Response, answer, joined};
use crate::cache::{Change, EventType, line};
use crate::dispatch::Call;
use crate::negotiate::{Form, Media, Shape};
use crate::{respond, versions};

/// Shows objects to one client.
pub(crate) struct Shaper {
    form: Form,
    resource: &'static Resource,
    include: Include,
    /// Whether a watch's table has had its columns already.
    columns_sent: bool,
}

impl Shaper {
    pub(crate) fn new(call: &Call) -> Shaper {
        Shaper {
            form: call.form,
            resource: call.resource,
            include: call
                .query
                .text("includeObject")
                .and_then(Include::parse)
                .unwrap_or_default(),
            columns_sent: false,
        }
    }

    /// One object.
    pub(crate) fn object(&self, code: StatusCode, object: &Object) -> Result<Response, Status> {
        match self.form.shape {
            Shape::Whole => respond::document(code, self.form.media, self.bytes(object)?),
            Shape::Metadata { .. } => {
                respond::document(code, self.form.media, metadata(object)?.into())
            }
            Shape::Table => {
                let frame = frame(object.revision());
                let table = self.table(&frame, std::slice::from_ref(object))?;
                respond::document(code, self.form.media, table)
            }
        }
    }

    /// A list.
    pub(crate) fn list(
        &self,
        code: StatusCode,
        metadata: &Map<String, Value>,
        objects: &[Object],
    ) -> Result<Response, Status> {
        let (kind, api_version) = match self.form.shape {
            Shape::Table => {
                let text = |field: &str| {
                    let text = metadata.get(field).and_then(Value::as_str);
                    text.unwrap_or_default().to_owned()
                };
                let frame = Frame {
                    resource_version: text("resourceVersion"),
                    continue_token: text("continue"),
                    remaining: metadata.get("remainingItemCount").and_then(Value::as_i64),
                    without_columns: false,
                };
                return respond::document(code, self.form.media, self.table(&frame, objects)?);
            }
            Shape::Whole => (self.resource.list_kind(), self.resource.api_version()),
            Shape::Metadata { .. } => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
        };
        let head = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
            Value::Object(metadata.clone())
        );
        let mut pieces = Vec::with_capacity(objects.len() * 2 + 2);
        pieces.push(Bytes::from(head));
        for (i, object) in objects.iter().enumerate() {
            if i > 0 {
                pieces.push(Bytes::from_static(b","));
            }
            pieces.push(self.bytes(object)?);
        }
        pieces.push(Bytes::from_static(b"]}\n"));
        match self.form.media {
            Media::Json => Ok(answer(code, Media::Json.content_type(), joined(pieces))),
            media => respond::document(code, media, pieces.concat().into()),
        }
    }

    /// A watch's event about a cached object that was there when the watch began.
    pub(crate) fn event(&mut self, kind: EventType, object: &Object) -> Result<Bytes, Status> {
        let shown = match self.form.shape {
            Shape::Table => self.row(object)?,
            Shape::Whole | Shape::Metadata { .. } => self.bytes(object)?,
        };
        match self.form.media {
            Media::Protobuf => {
                let object = serde_json::from_slice(&shown)
                    .map_err(|e| Status::internal(format!("reading a cached object: {e}")))?;
                Ok(codec::encode_event(kind.as_str(), &object)?.into())
            }
            _ => Ok(line(kind, &shown)),
        }
    }

    /// A watch's event about a change.
    pub(crate) fn change(
        &mut self,
        change: &Change,
        kind: EventType,
    ) -> Result<Option<Bytes>, Status> {
        if self.form == Form::JSON && versions::stored_as_served(self.resource) {
            return Ok(change.line(kind));
        }
        change
            .shown(kind)
            .map(|object| self.event(kind, object))
            .transpose()
    }

    /// A watch's bookmark.
    pub(crate) fn bookmark(&mut self, object: &Value, version: u64) -> Bytes {
        let object = match self.form.shape {
            Shape::Whole => object.clone(),
            Shape::Metadata { .. } => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
            Shape::Table => {
                let mut table = json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": version.to_string()},
                    "columnDefinitions": [],
                    "rows": [{
                        "cells": [],
                        "object": {
                            "kind": "PartialObjectMetadata",
                            "apiVersion": "meta.k8s.io/v1",
                            "metadata": object["metadata"],
                        },
                    }],
                });
                if !std::mem::replace(&mut self.columns_sent, true) {
                    table["columnDefinitions"] = self.columns();
                }
                table
            }
        };
        self.mark("BOOKMARK", &object)
    }

    /// The event by which a watch ends before its time.
    pub(crate) fn error(&self, status: &Status) -> Bytes {
        self.mark("ERROR", &status.to_value())
    }

    /// An event whose object is made here.
    fn mark(&self, kind: &str, object: &Value) -> Bytes {
        let framed = match self.form.media {
            Media::Protobuf => codec::encode_event(kind, object).ok(),
            _ => None,
        };
        // What is asked for in protobuf has a form in it, and so has its `Status`.
        framed.map_or_else(
            || format!("{}\n", json!({"type": kind, "object": object})).into(),
            Bytes::from,
        )
    }

    fn bytes(&self, object: &Object) -> Result<Bytes, Status> {
        match self.form.shape {
            Shape::Metadata { .. } => metadata(object).map(Bytes::from),
            Shape::Whole | Shape::Table => {
                Ok(versions::served(self.resource, object)?.bytes().clone())
            }
        }
    }

    /// A table of one row; its columns only the first time, as in Kubernetes' watches.
    fn row(&mut self, object: &Object) -> Result<Bytes, Status> {
        let frame = Frame {
            without_columns: std::mem::replace(&mut self.columns_sent, true),
            ..frame(object.revision())
        };
        self.table(&frame, std::slice::from_ref(object))
    }

    fn table(&self, frame: &Frame, objects: &[Object]) -> Result<Bytes, Status> {
        let now = jiff::Timestamp::now();
        let viewed: Vec<Object>;
        let objects = if versions::stored_as_served(self.resource) {
            objects
        } else {
            let all = objects.iter().map(|o| versions::served(self.resource, o));
            viewed = all
                .map(|o| o.map(Cow::into_owned))
                .collect::<Result<_, _>>()?;
            &viewed
        };
        api::table::table(self.resource, objects, now, self.include, frame)
            .map(Bytes::from)
            .map_err(|e| Status::internal(format!("reading a cached object: {e}")))
    }

    fn columns(&self) -> Value {
        let table = self.table(&Frame::default(), &[]).unwrap_or_default();
        let mut table: Value = serde_json::from_slice(&table).unwrap_or_default();
        table["columnDefinitions"].take()
    }
}

fn frame(revision: u64) -> Frame {
    // What is not stored has none.
    let stored = (revision != 0).then(|| revision.to_string());
    Frame {
        resource_version: stored.unwrap_or_default(),
        ..Frame::default()
    }
}

/// `PartialObjectMetadata` of an object: its metadata's own text.
fn metadata(object: &Object) -> Result<String, Status> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(object.bytes())
        .map_err(|e| Status::internal(format!("reading a cached object: {e}")))?;
    Ok(format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{}}}",
        envelope.metadata.get()
    ))
}
