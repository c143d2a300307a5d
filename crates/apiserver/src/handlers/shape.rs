//! The form in which objects are shown: whole, as a table's rows, or their metadata alone.

use api::{Object, Resource, Status};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::body::{Response, answer, joined};
use crate::cache::{Change, EventType, line};
use crate::dispatch::Call;
use crate::negotiate::{Form, Media, Shape};
use crate::respond;

/// Shows objects to one client.
pub(crate) struct Shaper {
    form: Form,
    resource: &'static Resource,
    include: api::table::Include,
    /// Whether a watch's table has had its columns already.
    columns_sent: bool,
}

impl Shaper {
    pub(crate) fn new(call: &Call) -> Shaper {
        Shaper {
            form: call.form,
            resource: call.resource,
            include: match call.query.text("includeObject") {
                Some("None") => api::table::Include::None,
                Some("Object") => api::table::Include::Object,
                _ => api::table::Include::Metadata,
            },
            columns_sent: false,
        }
    }

    /// One object.
    pub(crate) fn object(&self, code: StatusCode, object: &Object) -> Result<Response, Status> {
        match self.form.shape {
            Shape::Whole => respond::document(code, self.form.media, object.bytes().clone()),
            Shape::Metadata => respond::document(code, self.form.media, metadata(object)?.into()),
            Shape::Table => {
                let metadata = revision(object.revision());
                let table = self.table(&metadata, std::slice::from_ref(object));
                respond::value(code, self.form.media, &table)
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
                let table = self.table(metadata, objects);
                return respond::value(code, self.form.media, &table);
            }
            Shape::Whole => (self.resource.list_kind(), self.resource.api_version()),
            Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
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
            Media::Yaml => respond::document(code, Media::Yaml, pieces.concat().into()),
        }
    }

    /// A watch's event about a cached object that was there when the watch began.
    pub(crate) fn event(&mut self, kind: EventType, object: &Object) -> Result<Bytes, Status> {
        Ok(match self.form.shape {
            Shape::Table => line(kind, self.row(object).to_string().as_bytes()),
            Shape::Whole | Shape::Metadata => line(kind, &self.bytes(object)?),
        })
    }

    /// A watch's event about a change.
    pub(crate) fn change(
        &mut self,
        change: &Change,
        kind: EventType,
    ) -> Result<Option<Bytes>, Status> {
        if self.form.shape == Shape::Whole {
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
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
            Shape::Table => {
                let mut table = self.table(&revision(version), &[]);
                table["rows"] = json!([{
                    "cells": [],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": object["metadata"],
                    },
                }]);
                if std::mem::replace(&mut self.columns_sent, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
        };
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }

    fn bytes(&self, object: &Object) -> Result<Bytes, Status> {
        match self.form.shape {
            Shape::Metadata => metadata(object).map(Bytes::from),
            Shape::Whole | Shape::Table => Ok(object.bytes().clone()),
        }
    }

    /// A table of one row; its columns only the first time, as in Kubernetes' watches.
    fn row(&mut self, object: &Object) -> Value {
        let metadata = revision(object.revision());
        let mut table = self.table(&metadata, std::slice::from_ref(object));
        if std::mem::replace(&mut self.columns_sent, true) {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    fn table(&self, metadata: &Map<String, Value>, objects: &[Object]) -> Value {
        let now = jiff::Timestamp::now();
        let mut table = api::table::table(self.resource, objects, now, self.include);
        table["metadata"] = Value::Object(metadata.clone());
        table
    }
}

fn revision(revision: u64) -> Map<String, Value> {
    Map::from_iter([("resourceVersion".to_owned(), revision.to_string().into())])
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
