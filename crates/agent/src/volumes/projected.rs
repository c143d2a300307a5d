//! `projected`: files from several sources in one volume.
//!
//! All sources are asked at the same time. Where two of them name the same file, the later one in the volume's order has
//! it, as with the kubelet: the API server has refused what it could foresee. A file where another source wants a
//! directory is an error.

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Volume, VolumeProjection};

use super::payload::{self, Files};
use super::{Context, Error, Kind, Made, WRITING, config_map, downward_api, secret, token};
use crate::objects;
use crate::pod::Host;

pub(super) struct Projected;

#[async_trait]
impl Kind for Projected {
    fn field(&self) -> &'static str {
        "projected"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.projected.is_some()
    }

    fn refusal(&self, volume: &Volume, _: &Host) -> Option<String> {
        sources(volume).iter().enumerate().find_map(|(i, source)| {
            let field = match source {
                VolumeProjection {
                    cluster_trust_bundle: Some(_),
                    ..
                } => "clusterTrustBundle",
                VolumeProjection {
                    pod_certificate: Some(_),
                    ..
                } => "podCertificate",
                _ => return None,
            };
            Some(format!(
                "sources[{i}].{field} is not supported by carob yet"
            ))
        })
    }

    fn follows_metadata(&self, volume: &Volume) -> bool {
        let mut sources = sources(volume).iter();
        sources.any(|source| {
            let source = source.downward_api.as_ref();
            source.is_some_and(|source| downward_api::follows(source.items.as_deref()))
        })
    }

    fn shows<'a>(&self, volume: &'a Volume) -> Vec<(objects::Kind, &'a str)> {
        let shows = |source: &'a VolumeProjection| {
            let map = source.config_map.as_ref();
            let secret = source.secret.as_ref();
            map.map(|map| (objects::Kind::ConfigMap, map.name.as_str()))
                .or(secret.map(|secret| (objects::Kind::Secret, secret.name.as_str())))
        };
        sources(volume).iter().filter_map(shows).collect()
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let default_mode = volume.projected.as_ref().and_then(|v| v.default_mode);
        let asked = sources(volume)
            .iter()
            .map(|source| projection(source, default_mode, cx));
        let mut all = Files::new();
        let mut renew_at = None;
        let mut errors = Vec::new();
        for answer in join_all(asked).await {
            match answer {
                Ok((files, due)) => {
                    all.extend(payload::cleaned(files).map_err(Error::io(WRITING))?);
                    renew_at = renew_at.into_iter().chain(due).min();
                }
                Err(error) => errors.push(error),
            }
        }
        if let Some(error) = Error::all(errors) {
            return Err(error);
        }
        let made = cx.write_in_memory(all).await?;
        Ok(Made { renew_at, ..made })
    }
}

fn sources(volume: &Volume) -> &[VolumeProjection] {
    let source = volume.projected.as_ref();
    source
        .and_then(|source| source.sources.as_deref())
        .unwrap_or_default()
}

/// One source's files, and when they are to be made anew if they do not last.
async fn projection(
    source: &VolumeProjection,
    default_mode: Option<i32>,
    cx: &Context<'_>,
) -> Result<(Files, Option<Timestamp>), Error> {
    let files = if let Some(source) = &source.secret {
        secret::files(source, default_mode, cx).await?
    } else if let Some(source) = &source.config_map {
        config_map::files(source, default_mode, cx).await?
    } else if let Some(source) = &source.downward_api {
        downward_api::files(source.items.as_deref(), default_mode, cx)?
    } else if let Some(source) = &source.service_account_token {
        let (file, due) = match token::kept(source, cx).await {
            Some(kept) => kept,
            None => token::file(source, cx).await?,
        };
        return Ok((Files::from([(source.path.clone(), file)]), Some(due)));
    } else {
        Files::new()
    };
    Ok((files, None))
}
