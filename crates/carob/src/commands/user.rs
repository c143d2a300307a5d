//! `carob user`: who else may talk to the cluster.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use client::kubeconfig;
use client::tls::Identity;
use client::users::{self, NewUser};
use serde_json::json;

use crate::output::{List, ListFormat};
use crate::target::Target;

/// Manage the users that have certificates of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct User {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a user and write a kubeconfig for them
    Add {
        /// The user's name, as role bindings name it
        name: String,
        /// A group that the user is in; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// The kubeconfig to write; else NAME.kubeconfig. It must not exist
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the users
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListFormat,
    },
    /// Take a user's certificate back: at once, and on open connections too
    Revoke {
        /// The user's name
        name: String,
    },
}

impl User {
    pub(crate) async fn run(self) -> Result<()> {
        match &self.command {
            Command::Add {
                name,
                groups,
                output,
            } => {
                let file = output
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(format!("{name}.kubeconfig")));
                self.add(name, groups, file).await
            }
            Command::Ls { output } => self.list(*output).await,
            Command::Revoke { name } => {
                let revoked = users::revoke(&self.target.client()?, name).await;
                revoked.map_err(|error| match error.is_not_found() {
                    true => anyhow!("user {name:?} not found"),
                    false => error.into(),
                })?;
                println!("revoked {name}");
                Ok(())
            }
        }
    }

    async fn add(&self, name: &str, groups: &[String], file: PathBuf) -> Result<()> {
        // Before anything is made: what is there may be somebody's only key.
        if file.exists() {
            bail!(
                "{} exists, maybe of an earlier {name}: remove it if nobody needs it any more, or choose another file by --output",
                file.display()
            );
        }
        kubeconfig::check(&file).await?;
        let context = self.target.context()?;
        let made = client::tls::request(name, "", &[])?;
        let new = NewUser {
            name: name.to_owned(),
            groups: groups.to_owned(),
            csr: made.csr_pem,
        };
        let certified = users::add(&self.target.client()?, &new).await;
        let certified = certified.map_err(|error| match error.is_already_exists() {
            true => {
                anyhow!("user {name:?} already exists: `carob user revoke {name}` takes them back")
            }
            false => error.into(),
        })?;
        let identity = Identity {
            cert_pem: certified.certificate,
            key_pem: made.key_pem,
            ca_pem: context.ca_pem.clone(),
        };
        let written = kubeconfig::write(&file, &context.name, &context.server, &identity);
        written.with_context(|| {
            format!("{name} has no kubeconfig: `carob user revoke {name}`, and add them again")
        })?;
        println!("{} is {name}'s kubeconfig", file.display());
        if groups.is_empty() {
            println!(
                "{name} has no rights yet: kubectl create clusterrolebinding {name} --clusterrole view --user {name}"
            );
        }
        Ok(())
    }

    async fn list(&self, output: ListFormat) -> Result<()> {
        let users = users::list(&self.target.client()?).await?;
        let row = |user: &users::User| json!({"name": user.name, "groups": user.groups, "created": user.created});
        let list = List {
            columns: &[
                ("NAME", "name"),
                ("GROUPS", "groups"),
                ("CREATED", "created"),
            ],
            narrow: 3,
            rows: users.iter().map(row).collect(),
        };
        list.print(output)
    }
}
