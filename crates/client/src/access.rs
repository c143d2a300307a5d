//! The verbs on one kind.

use std::marker::PhantomData;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    Client, DeleteOptions, Error, ListOptions, Object, Patch, Watch,
    client::{json_request, plain_request},
};

/// What may stand unescaped in a path segment or a query's value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The forms of a list and of a watch's objects that hold metadata alone; whole ones will do where there are none.
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// How many objects one page of a list asks for.
const PAGE: usize = 1000;

/// Where a kind's objects are to be found.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    root: String,
    plural: String,
}

impl Location {
    pub(crate) fn new(group: &str, version: &str, plural: &str) -> Self {
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        Location {
            root,
            plural: plural.to_owned(),
        }
    }

    fn all(&self, namespace: &str) -> String {
        if namespace.is_empty() {
            format!("{}/{}", self.root, self.plural)
        } else {
            let namespace = escape(namespace);
            format!("{}/namespaces/{namespace}/{}", self.root, self.plural)
        }
    }

    fn one(&self, namespace: &str, name: &str) -> Result<String, Error> {
        if name.is_empty() {
            return Err(Error::Invalid(format!("{}: no name given", self.plural)));
        }
        Ok(format!("{}/{}", self.all(namespace), escape(name)))
    }
}

/// Every object of a kind, as it was at one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct List<T> {
    /// The objects, in the order of their keys.
    pub items: Vec<T>,
    /// The store's revision that the list shows: where a watch goes on from.
    pub revision: u64,
}

/// The verbs on one kind. Namespaces are empty strings for cluster-scoped kinds. Returned objects
/// carry their `resourceVersion`.
#[derive(Debug, Clone)]
pub struct Access<T> {
    client: Client,
    location: Location,
    form: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// What a list says of itself.
#[derive(Deserialize)]
struct Revision {
    #[serde(default)]
    metadata: PageMetadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

impl<T: Object> Access<T> {
    pub(crate) fn new(client: Client, location: Location) -> Self {
        Access {
            client,
            location,
            form: PhantomData,
        }
    }

    /// The kind's plural name, `pods`.
    #[must_use]
    pub fn plural(&self) -> &str {
        &self.location.plural
    }

    /// Reads one object.
    ///
    /// # Errors
    /// 404 if there is none; see [`Client::raw`].
    pub async fn get(&self, namespace: &str, name: &str) -> Result<T, Error> {
        let uri = self.location.one(namespace, name)?;
        self.client.read(plain_request(Method::GET, &uri)?).await
    }

    /// Reads one object that may not be there.
    ///
    /// # Errors
    /// Any but 404.
    pub async fn find(&self, namespace: &str, name: &str) -> Result<Option<T>, Error> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all objects that the options name, page by page, all as of one revision.
    ///
    /// # Errors
    /// See [`Client::raw`]; [`Error::Decode`] for an object that does not fit `T`.
    pub async fn list(&self, options: &ListOptions) -> Result<List<T>, Error> {
        let (list, mut unread) = self.list_readable(options).await?;
        match unread.pop() {
            None => Ok(list),
            Some(error) => Err(error),
        }
    }

    /// As [`Self::list`], but goes on without the objects that do not fit `T`.
    pub(crate) async fn list_readable(
        &self,
        options: &ListOptions,
    ) -> Result<(List<T>, Vec<Error>), Error> {
        match self.list_pages(options, Some(PAGE)).await {
            // The pages' common revision was compacted between two of them.
            Err(error) if error.is_expired() => self.list_pages(options, None).await,
            other => other,
        }
    }

    async fn list_pages(
        &self,
        options: &ListOptions,
        page: Option<usize>,
    ) -> Result<(List<T>, Vec<Error>), Error> {
        let mut items = Vec::new();
        let mut unread = Vec::new();
        let mut next = None;
        loop {
            let mut query = selectors(options);
            if let Some(page) = page {
                query.push("limit", page);
            }
            if let Some(next) = &next {
                query.push("continue", next);
            }
            let uri = query.on(&self.location.all(&options.namespace));
            let request = selecting(options, &uri, METADATA_LIST)?;
            let body = self.client.read_bytes(request).await?;
            let read: Page<'_> = serde_json::from_slice(&body).map_err(|error| {
                Error::decode(format!("list of {}", self.location.plural), error)
            })?;
            for item in read.items.unwrap_or_default() {
                match serde_json::from_str(item.get()) {
                    Ok(item) => items.push(item),
                    Err(error) => unread.push(Error::decode(describe(item.get()), error)),
                }
            }
            next = read.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                let revision = read.metadata.resource_version.parse().unwrap_or(0);
                return Ok((List { items, revision }, unread));
            }
        }
    }

    /// The revision as of now: from where a watch of the objects that the options name shows all that comes later.
    ///
    /// # Errors
    /// See [`Client::raw`].
    pub async fn revision(&self, options: &ListOptions) -> Result<u64, Error> {
        let mut query = selectors(options);
        // There is no list of none.
        query.push("limit", 1);
        let uri = query.on(&self.location.all(&options.namespace));
        let request = selecting(options, &uri, METADATA_LIST)?;
        let list: Revision = self.client.read(request).await?;
        Ok(list.metadata.resource_version.parse().unwrap_or(0))
    }

    /// Watches the objects that the options name, from just after `revision`, with bookmarks.
    ///
    /// # Errors
    /// 410 if `revision` is no longer kept (it may also come as the first event); see
    /// [`Client::raw`].
    pub async fn watch(&self, options: &ListOptions, revision: u64) -> Result<Watch<T>, Error> {
        self.watch_for(options, revision, None).await
    }

    /// As [`Self::watch`]; the server ends the watch after `seconds`.
    pub(crate) async fn watch_for(
        &self,
        options: &ListOptions,
        revision: u64,
        seconds: Option<u64>,
    ) -> Result<Watch<T>, Error> {
        let mut query = selectors(options);
        query.push("watch", "true");
        query.push("allowWatchBookmarks", "true");
        query.push("resourceVersion", revision);
        if let Some(seconds) = seconds {
            query.push("timeoutSeconds", seconds);
        }
        let uri = query.on(&self.location.all(&options.namespace));
        let request = selecting(options, &uri, METADATA)?;
        let response = self.client.raw(request).await?;
        Ok(Watch::new(response.into_body()))
    }

    /// Deletes one object. Deletion may go on after this returns: by a pod's grace period, or
    /// while finalizers are left.
    ///
    /// # Errors
    /// 404; 409 when a precondition does not hold; see [`Client::raw`].
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let uri = self.location.one(namespace, name)?;
        let request = json_request(Method::DELETE, &uri, "application/json", &options.body())?;
        self.client.read_bytes(request).await.map(drop)
    }

    /// Changes part of an object, or of its `subresource` (`status`, `scale`).
    ///
    /// # Errors
    /// 404; 409; 422 when the outcome is invalid; see [`Client::raw`].
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<T, Error> {
        let mut uri = self.location.one(namespace, name)?;
        if let Some(subresource) = subresource {
            uri = format!("{uri}/{}", escape(subresource));
        }
        let mut query = self.write_query();
        if let Patch::Apply { force: true, .. } = patch {
            query.push("force", "true");
        }
        let request = json_request(
            Method::PATCH,
            &query.on(&uri),
            patch.content_type(),
            patch.body(),
        )?;
        self.client.read(request).await
    }

    /// Reads a subresource of an object, in whatever form it has (`scale`).
    ///
    /// # Errors
    /// See [`Client::raw`].
    pub async fn read<R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
    ) -> Result<R, Error> {
        let uri = self.location.one(namespace, name)?;
        let uri = format!("{uri}/{}", escape(subresource));
        self.client.read(plain_request(Method::GET, &uri)?).await
    }

    /// Creates a subresource of an object (`binding`, `eviction`, `token`).
    ///
    /// # Errors
    /// See [`Client::raw`].
    pub async fn post<B: Serialize, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, Error> {
        let uri = self.location.one(namespace, name)?;
        let uri = format!("{uri}/{}", escape(subresource));
        let uri = self.write_query().on(&uri);
        let request = json_request(Method::POST, &uri, "application/json", body)?;
        self.client.read(request).await
    }

    fn write_query(&self) -> Query {
        let mut query = Query::default();
        query.push("fieldManager", self.client.field_manager());
        query
    }
}

impl<T: Object + Serialize> Access<T> {
    /// Creates an object, in the namespace that it names.
    ///
    /// # Errors
    /// 409 when the name is taken; 422 when it is invalid; see [`Client::raw`].
    pub async fn create(&self, object: &T) -> Result<T, Error> {
        let uri = self.location.all(object.namespace());
        self.write(Method::POST, &uri, object).await
    }

    /// Replaces an object; if it carries a `resourceVersion`, only that version of it.
    ///
    /// # Errors
    /// 404; 409 when somebody else wrote it first; 422; see [`Client::raw`].
    pub async fn update(&self, object: &T) -> Result<T, Error> {
        let uri = self.location.one(object.namespace(), object.name())?;
        self.write(Method::PUT, &uri, object).await
    }

    /// Replaces an object's status and nothing else.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn update_status(&self, object: &T) -> Result<T, Error> {
        let uri = self.location.one(object.namespace(), object.name())?;
        self.write(Method::PUT, &format!("{uri}/status"), object)
            .await
    }

    async fn write(&self, method: Method, uri: &str, object: &T) -> Result<T, Error> {
        let uri = self.write_query().on(uri);
        let request = json_request(method, &uri, "application/json", object)?;
        self.client.read(request).await
    }
}

/// A query string under construction.
#[derive(Default)]
struct Query(String);

impl Query {
    fn push(&mut self, name: &str, value: impl ToString) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(&value.to_string()));
    }

    fn on(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

fn selectors(options: &ListOptions) -> Query {
    let mut query = Query::default();
    if !options.label_selector.is_empty() {
        query.push("labelSelector", &options.label_selector);
    }
    if !options.field_selector.is_empty() {
        query.push("fieldSelector", &options.field_selector);
    }
    query
}

/// A request for the objects that the options name, in the form of metadata if they say so.
fn selecting(
    options: &ListOptions,
    uri: &str,
    metadata: &'static str,
) -> Result<Request<Bytes>, Error> {
    let mut request = plain_request(Method::GET, uri)?;
    if options.metadata_only {
        let form = HeaderValue::from_static(metadata);
        request.headers_mut().insert(header::ACCEPT, form);
    }
    Ok(request)
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Which object an undecodable one is, as far as it can be told.
pub(crate) fn describe(json: &str) -> String {
    match serde_json::from_str::<crate::PartialObject>(json) {
        Ok(object) => format!("object {}", crate::Key::of(&object)),
        Err(_) => "object without readable metadata".to_owned(),
    }
}
