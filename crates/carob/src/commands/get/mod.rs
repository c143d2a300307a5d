//! `carob get`: lists, as the server's own tables.

mod watch;

use anyhow::{Result, bail};
use api::Resource;
use bytes::Bytes;
use client::Client;
use http::{Request, header};
use serde_json::{Value, json};

use crate::output::{Format, ListFormat, Table};
use crate::target::{self, Scope};

/// List objects.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// TYPE, TYPE NAME… or TYPE/NAME…
    #[arg(required = true)]
    objects: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects whose labels fit
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    output: ListFormat,
    /// Go on with what changes, a row or an object each time, until you end it
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    scope: Scope,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// A list of the largest cluster that is printed.
const LIMIT: usize = 256 << 20;

impl Get {
    pub(crate) async fn run(self) -> Result<()> {
        let (client, namespace) = self.scope.open()?;
        let objects = target::objects(&self.objects)?;
        if self.watch && objects.len() > 1 {
            bail!("--watch follows one type, or one object");
        }
        let mut several = Vec::new();
        for (resource, name) in &objects {
            if let Some(name) = name {
                let flag = match (self.all_namespaces, self.selector.is_empty()) {
                    (true, _) => Some("--all-namespaces"),
                    (false, false) => Some("--selector"),
                    (false, true) => None,
                };
                if let Some(flag) = flag {
                    bail!(
                        "{}/{name}: {flag} goes with types, not with names",
                        resource.singular
                    );
                }
            }
            let namespace =
                (resource.namespaced && !self.all_namespaces).then_some(namespace.as_str());
            if self.watch {
                let watching = watch::Watching {
                    resource,
                    namespace,
                    name: name.as_deref(),
                    selector: &self.selector,
                    output: self.output,
                };
                return watching.run(&client).await;
            }
            let mut path = resource.path(namespace, name.as_deref());
            if !self.selector.is_empty() {
                let encoded: String =
                    url::form_urlencoded::byte_serialize(self.selector.as_bytes()).collect();
                path = format!("{path}?labelSelector={encoded}");
            }
            let tabular = matches!(
                self.output,
                ListFormat::Table | ListFormat::Wide | ListFormat::Name
            );
            let value = read(
                &client,
                &path,
                if tabular { TABLE } else { "application/json" },
            )
            .await?;
            match self.output {
                ListFormat::Table | ListFormat::Wide => {
                    print_table(
                        &value,
                        self.output == ListFormat::Wide,
                        self.all_namespaces && resource.namespaced,
                        namespace,
                    );
                }
                ListFormat::Name => print_names(resource, &value),
                ListFormat::Json | ListFormat::Yaml => several.push(value),
            }
        }
        let value = match several.len() {
            0 => return Ok(()),
            1 => several.remove(0),
            _ => json!({"apiVersion": "v1", "kind": "List", "items": items(several)}),
        };
        match self.output {
            ListFormat::Yaml => Format::Yaml.print(&value),
            _ => Format::Json.print(&value),
        }
    }
}

/// The objects among objects and lists.
fn items(several: Vec<Value>) -> Vec<Value> {
    let items = several.into_iter().flat_map(|mut value| {
        let is_list = value["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        let listed = value.get_mut("items").filter(|_| is_list);
        match listed.map(Value::take) {
            Some(Value::Array(mut items)) => {
                for item in &mut items {
                    // Lists leave out what they say once for all of their items.
                    item["apiVersion"] = value["apiVersion"].clone();
                    item["kind"] = value["kind"]
                        .as_str()
                        .unwrap_or_default()
                        .trim_end_matches("List")
                        .into();
                }
                items
            }
            _ => vec![value],
        }
    });
    items.collect()
}

/// Reads a path in the given form.
pub(crate) async fn read(client: &Client, path: &str, accept: &str) -> Result<Value> {
    let request = Request::get(path)
        .header(header::ACCEPT, accept)
        .body(Bytes::new())?;
    let answer = client.raw(request).await?;
    Ok(serde_json::from_slice(
        &client::collect(answer.into_body(), LIMIT).await?,
    )?)
}

fn print_table(table: &Value, wide: bool, with_namespace: bool, namespace: Option<&str>) {
    let rows = table["rows"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        match namespace {
            Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
            None => eprintln!("No resources found"),
        }
        return;
    }
    let columns = Columns::of(table, wide, with_namespace);
    let mut printed = Table::new(&columns.headings);
    for row in rows {
        printed.row(columns.cells(row));
    }
    printed.print();
}

/// What is shown of a table's rows.
struct Columns {
    headings: Vec<String>,
    /// Which cells.
    shown: Vec<usize>,
    /// Whether the namespace comes first.
    with_namespace: bool,
}

impl Columns {
    fn of(table: &Value, wide: bool, with_namespace: bool) -> Self {
        let columns = table["columnDefinitions"].as_array();
        let columns = columns.into_iter().flatten().enumerate();
        let shown = columns.filter(|(_, c)| wide || c["priority"].as_i64().unwrap_or(0) == 0);
        let heading = |column: &Value| column["name"].as_str().unwrap_or_default().to_uppercase();
        let (shown, headings): (_, Vec<_>) = shown.map(|(i, c)| (i, heading(c))).unzip();
        let first = with_namespace.then(|| "NAMESPACE".to_owned());
        Self {
            headings: first.into_iter().chain(headings).collect(),
            shown,
            with_namespace,
        }
    }

    fn cells(&self, row: &Value) -> Vec<String> {
        let namespace = row["object"]["metadata"]["namespace"].as_str();
        let namespace = namespace.unwrap_or_default().to_owned();
        let cell = |i: &usize| match &row["cells"][*i] {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".to_owned(),
            other => other.to_string(),
        };
        let first = self.with_namespace.then_some(namespace);
        first
            .into_iter()
            .chain(self.shown.iter().map(cell))
            .collect()
    }
}

fn print_names(resource: &Resource, table: &Value) {
    let of = if resource.group.is_empty() {
        resource.singular.to_owned()
    } else {
        format!("{}.{}", resource.singular, resource.group)
    };
    for row in table["rows"].as_array().into_iter().flatten() {
        println!(
            "{of}/{}",
            row["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
        );
    }
}
