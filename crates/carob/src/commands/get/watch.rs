//! `carob get --watch`: what is there, and then what changes, a row or an object each time.

use std::time::Duration;

use anyhow::{Result, bail};
use api::Resource;
use bytes::Bytes;
use client::{Client, Event, Object, Untyped, Watch};
use http::{Request, header};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Columns, TABLE, items, print_names, read};
use crate::output::{Format, ListFormat};

/// How long the servers may be without an answer until there is none.
const SERVER_BACK_WITHIN: Duration = Duration::from_secs(10);
const SERVER_PAUSE: Duration = Duration::from_millis(200);

/// What is followed, and how it is shown.
pub(super) struct Watching<'a> {
    pub(super) resource: &'a Resource,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) selector: &'a str,
    pub(super) output: ListFormat,
}

impl Watching<'_> {
    /// Prints what is there, and goes on with all that comes after it; ends by an error only.
    pub(super) async fn run(&self, client: &Client) -> Result<()> {
        // A list, even for one name: an object's own revision may be older than any that a watch can begin at.
        let list = Untyped(read(client, &self.path(None), self.form()).await?);
        let mut since = list.revision();
        let Untyped(list) = list;
        if since == 0 {
            bail!("{} cannot be followed", self.resource.plural);
        }
        let there = list["rows"].as_array().or(list["items"].as_array());
        if let Some(name) = self.name
            && there.is_none_or(Vec::is_empty)
        {
            bail!("{} \"{name}\" not found", self.resource.plural);
        }
        let all = self.resource.namespaced && self.namespace.is_none();
        let mut lines = Lines::new(Columns::of(&list, self.output == ListFormat::Wide, all));
        self.show(&mut lines, list)?;
        loop {
            let mut watch = self.open(client, since).await?;
            self.follow(&mut watch, &mut lines, &mut since).await?;
            sleep(SERVER_PAUSE).await;
        }
    }

    /// Begins to watch what comes after a revision, at a server that answers.
    async fn open(&self, client: &Client, since: u64) -> Result<Watch<Untyped>> {
        let last_chance = Instant::now() + SERVER_BACK_WITHIN;
        loop {
            let request = Request::get(self.path(Some(since)))
                .header(header::ACCEPT, self.form())
                .body(Bytes::new())?;
            match client.raw(request).await {
                Ok(answer) => return Ok(Watch::new(answer.into_body())),
                Err(error) if error.is_transient() && Instant::now() < last_chance => {
                    sleep(SERVER_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Shows changes after a revision, which goes on with them, until the watch is over or its server gone.
    async fn follow(
        &self,
        watch: &mut Watch<Untyped>,
        lines: &mut Lines,
        since: &mut u64,
    ) -> Result<()> {
        while let Some(event) = watch.next().await {
            let event = match event {
                // What the server says itself it would say again.
                Err(error) if error.is_transient() && error.status().is_none() => break,
                event => event?,
            };
            *since = event.revision();
            if let Event::Added(now) | Event::Modified(now) | Event::Deleted(now) = event {
                self.show(lines, now.0)?;
            }
        }
        Ok(())
    }

    /// Where the list is, or all that comes after a revision of it.
    fn path(&self, since: Option<u64>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.selector.is_empty() {
            query.append_pair("labelSelector", self.selector);
        }
        if let Some(name) = self.name {
            query.append_pair("fieldSelector", &format!("metadata.name={name}"));
        }
        if let Some(since) = since {
            query.append_pair("watch", "true");
            query.append_pair("resourceVersion", &since.to_string());
            // Where nothing changes for long, this is what the next watch can begin at.
            query.append_pair("allowWatchBookmarks", "true");
        }
        let path = self.resource.path(self.namespace, None);
        format!("{path}?{}", query.finish())
    }

    fn form(&self) -> &'static str {
        match self.output {
            ListFormat::Json | ListFormat::Yaml => "application/json",
            _ => TABLE,
        }
    }

    /// Shows a list, or one object.
    fn show(&self, lines: &mut Lines, what: Value) -> Result<()> {
        match self.output {
            ListFormat::Table | ListFormat::Wide => {
                for line in lines.of(&what) {
                    println!("{line}");
                }
            }
            ListFormat::Name => print_names(self.resource, &what),
            // One object after the other, for whoever reads them.
            ListFormat::Json => {
                for object in items(vec![what]) {
                    Format::Json.print(&object)?;
                }
            }
            ListFormat::Yaml => {
                for object in items(vec![what]) {
                    println!("---");
                    Format::Yaml.print(&object)?;
                }
            }
        }
        Ok(())
    }
}

/// Lines of a table that is never complete.
struct Lines {
    columns: Columns,
    /// The widest cell of each column so far, after which all later ones are set.
    widths: Vec<usize>,
    /// Whether the headings were shown: with the first row.
    headed: bool,
}

impl Lines {
    fn new(columns: Columns) -> Self {
        Self {
            widths: vec![0; columns.headings.len()],
            columns,
            headed: false,
        }
    }

    /// The lines of a table's rows.
    fn of(&mut self, table: &Value) -> Vec<String> {
        let rows = table["rows"].as_array().into_iter().flatten();
        let mut rows: Vec<_> = rows.map(|row| self.columns.cells(row)).collect();
        if !rows.is_empty() && !std::mem::replace(&mut self.headed, true) {
            rows.insert(0, self.columns.headings.clone());
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let cells = row.iter().zip(&self.widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}   "));
        cells.collect::<String>().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(rows: &[(&str, &str)]) -> Value {
        let columns = ["Name", "Status", "IP"];
        let columns =
            columns.map(|name| json!({"name": name, "priority": i32::from(name == "IP")}));
        let row = |(name, status): &(&str, &str)| json!({"cells": [name, status, "10.0.0.1"], "object": {"metadata": {"namespace": "n"}}});
        let rows: Vec<_> = rows.iter().map(row).collect();
        json!({"columnDefinitions": columns, "rows": rows})
    }

    #[test]
    fn columns_keep_their_places() {
        let read = table(&[]);
        let mut lines = Lines::new(Columns::of(&read, false, false));
        assert!(lines.of(&read).is_empty());
        let first = lines.of(&table(&[("long-name", "Pending"), ("b", "Running")]));
        assert_eq!(
            first,
            [
                "NAME        STATUS",
                "long-name   Pending",
                "b           Running"
            ]
        );
        // A later table comes without its columns' names.
        let mut later = table(&[("c", "Completed")]);
        later["columnDefinitions"] = json!([]);
        assert_eq!(lines.of(&later), ["c           Completed"]);
        let mut all = Lines::new(Columns::of(&read, true, true));
        assert_eq!(
            all.of(&table(&[("a", "Running")])),
            [
                "NAMESPACE   NAME   STATUS    IP",
                "n           a      Running   10.0.0.1"
            ]
        );
    }

    #[test]
    fn what_is_followed_is_named() {
        let resource = crate::target::resource("pods").unwrap();
        let watching = |name, selector| Watching {
            resource,
            namespace: Some("n"),
            name,
            selector,
            output: ListFormat::Table,
        };
        for (watching, since, path) in [
            (watching(None, ""), None, "/api/v1/namespaces/n/pods?"),
            (
                watching(None, "a=b"),
                None,
                "/api/v1/namespaces/n/pods?labelSelector=a%3Db",
            ),
            (
                watching(Some("p"), ""),
                Some(7),
                "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Dp&watch=true&resourceVersion=7&allowWatchBookmarks=true",
            ),
        ] {
            assert_eq!(watching.path(since), path);
        }
    }
}
