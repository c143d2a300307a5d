//! `carob describe`: an object in full, and what happened to it.

use anyhow::{Context, Result, bail};
use client::ListOptions;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::output::Table;
use crate::target::{self, Scope};

/// Show one object in detail.
#[derive(Debug, clap::Args)]
pub(crate) struct Describe {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(required = true)]
    objects: Vec<String>,
    #[command(flatten)]
    scope: Scope,
}

impl Describe {
    pub(crate) async fn run(self) -> Result<()> {
        let (client, namespace) = self.scope.open()?;
        for (resource, name) in target::objects(&self.objects)? {
            let Some(name) = name else {
                bail!("say which of the {}: TYPE NAME", resource.plural)
            };
            let namespace = if resource.namespaced {
                namespace.as_str()
            } else {
                ""
            };
            let mut object = client
                .untyped(resource)
                .get(namespace, &name)
                .await
                .with_context(|| format!("{}/{name}", resource.singular))?;
            if let Some(meta) = object.0["metadata"].as_object_mut() {
                meta.remove("managedFields");
            }
            print!("{}", serde_yaml::to_string(&object.0)?);
            let about = ListOptions::namespace(namespace).fields(format!(
                "involvedObject.name={name},involvedObject.kind={}",
                resource.kind
            ));
            let mut events = client.of::<Event>().list(&about).await?.items;
            events.sort_by(|a, b| a.last_timestamp.cmp(&b.last_timestamp));
            if events.is_empty() {
                println!("events: none");
                continue;
            }
            println!("events:");
            let mut table = Table::new(["LAST SEEN", "TYPE", "REASON", "COUNT", "MESSAGE"]);
            for event in events {
                table.row([
                    event
                        .last_timestamp
                        .map(|Time(t)| t.to_string())
                        .unwrap_or_default(),
                    event.type_.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.count.unwrap_or(1).to_string(),
                    event.message.unwrap_or_default(),
                ]);
            }
            table.print();
        }
        Ok(())
    }
}
