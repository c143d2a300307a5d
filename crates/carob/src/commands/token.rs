//! `carob token`: how other machines get in.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use client::join::Role;
use client::token::Token as JoinToken;
use client::{Client, DeleteOptions, ListOptions, Object};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::Rng;
use serde_json::{Value, json};

use crate::output::{List, ListFormat};
use crate::target::Target;

/// Manage the tokens with which machines join.
#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it
    Create {
        /// What a machine may join as
        #[arg(long, value_enum, default_value = "agent")]
        role: RoleArg,
        /// How long it is valid: 30m, 24h, 7d
        #[arg(long, default_value = "24h", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// List the tokens; their secrets are not shown
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListFormat,
    },
    /// Remove a token
    Rm {
        /// The first part of the token
        id: String,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleArg {
    Server,
    Agent,
}

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

impl Token {
    pub(crate) async fn run(self) -> Result<()> {
        let context = self.target.context()?;
        let client = self.target.client()?;
        match self.command {
            Command::Create { role, ttl } => {
                let role = match role {
                    RoleArg::Server => Role::Server,
                    RoleArg::Agent => Role::Agent,
                };
                println!("{}", create(&client, &context.ca_pem, role, ttl).await?);
            }
            Command::Ls { output } => list(&client, output).await?,
            Command::Rm { id } => {
                let id = id.split('.').next().unwrap_or(&id);
                let name = format!("bootstrap-token-{id}");
                let secrets = client.of::<Secret>();
                let options = DeleteOptions::default();
                let removed = secrets.delete(NAMESPACE, &name, &options).await;
                removed.map_err(|error| match error.is_not_found() {
                    true => anyhow!("token {id:?} not found"),
                    false => anyhow!(error).context(format!("cannot remove the token {id}")),
                })?;
                println!("removed {id}");
            }
        }
        Ok(())
    }
}

/// Makes a token for `role` that is valid for `ttl`, of the cluster with this CA.
pub(crate) async fn create(
    client: &Client,
    ca_pem: &str,
    role: Role,
    ttl: Duration,
) -> Result<JoinToken> {
    let ca = client::tls::certificates(ca_pem)?;
    let ca = ca.first().context("the cluster has no CA certificate")?;
    let token = JoinToken::new(&random(6), &random(16), ca)?;
    let expiration = jiff::SignedDuration::try_from(ttl)
        .and_then(|ttl| Timestamp::now().checked_add(ttl))
        .context("that is too long for a token")?;
    let data = [
        ("token-id", token.id().to_owned()),
        ("token-secret", token.secret().to_owned()),
        ("expiration", expiration.to_string()),
        ("usage-carob-role", role.to_string()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(format!("bootstrap-token-{}", token.id())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(
            data.into_iter()
                .map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    };
    client
        .of::<Secret>()
        .create(&secret)
        .await
        .context("cannot make a token")?;
    Ok(token)
}

async fn list(client: &Client, output: ListFormat) -> Result<()> {
    let options = ListOptions::namespace(NAMESPACE).fields(format!("type={TYPE}"));
    let secrets = client.of::<Secret>().list(&options).await?.items;
    let now = Timestamp::now();
    let list = List {
        columns: &[
            ("ID", "id"),
            ("ROLE", "role"),
            ("EXPIRES", "expires"),
            ("EXPIRED", "expired"),
        ],
        narrow: 4,
        rows: secrets.iter().map(|secret| row(secret, now)).collect(),
    };
    list.print(output)
}

/// A token as it is listed: when it expires, to the second, and whether it has.
fn row(secret: &Secret, now: Timestamp) -> Value {
    let data = secret.data.clone().unwrap_or_default();
    let text = |key: &str| {
        let value = data.get(key);
        value.map(|ByteString(v)| String::from_utf8_lossy(v).into_owned())
    };
    let id = secret.name().trim_start_matches("bootstrap-token-");
    let (expires, expired) = match text("expiration") {
        None => (None, false),
        Some(text) => match text.parse::<Timestamp>() {
            // What cannot be read is not believed to be still to come.
            Err(_) => (Some(text), true),
            Ok(end) => {
                let second = Timestamp::from_second(end.as_second()).unwrap_or(end);
                (Some(second.to_string()), end <= now)
            }
        },
    };
    json!({"id": id, "role": text("usage-carob-role"), "expires": expires, "expired": expired})
}

/// Letters and digits that a token may hold.
fn random(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length)
        .map(|_| ALPHABET[random.random_range(0..ALPHABET.len())] as char)
        .collect()
}

/// `90s`, `30m`, `24h`, `7d`; a bare number counts seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("{text} is no duration such as 90s, 30m, 24h or 7d")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text} is no duration such as 90s, 30m, 24h or 7d"))?;
    if number == 0 {
        return Err(format!("{text} is no time at all"));
    }
    number
        .checked_mul(unit)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_listed_by_when_they_expire() {
        let now = "2026-11-21T10:00:00.5Z".parse().unwrap();
        let row_of = |expires, expired| json!({"id": "abc", "role": "agent", "expires": expires, "expired": expired});
        for (expiration, shown) in [
            (
                Some("2026-11-22T10:00:00.123456789Z"),
                row_of(Some("2026-11-22T10:00:00Z"), false),
            ),
            (
                Some("2026-11-21T10:00:00.5Z"),
                row_of(Some("2026-11-21T10:00:00Z"), true),
            ),
            (
                Some("2026-11-20T10:00:00Z"),
                row_of(Some("2026-11-20T10:00:00Z"), true),
            ),
            (Some("soon"), row_of(Some("soon"), true)),
            (None, row_of(None, false)),
        ] {
            let mut data = std::collections::BTreeMap::new();
            let mut put = |key: &str, value: &str| {
                data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()))
            };
            put("usage-carob-role", "agent");
            if let Some(expiration) = expiration {
                put("expiration", expiration);
            }
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some("bootstrap-token-abc".to_owned()),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..Secret::default()
            };
            assert_eq!(row(&secret, now), shown);
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("5", 5),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in [
            "",
            "h",
            "0s",
            "1w",
            "-1h",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
