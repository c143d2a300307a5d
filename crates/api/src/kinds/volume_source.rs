//! Where the files of a volume come from: rules of the sources that pods' volumes and
//! PersistentVolumes share.

use super::field::{flag, int, items, map, present, text};
use super::names;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// For sources that need no other rule: the texts and lists that must not be empty.
const REQUIRED: [(&str, &[&str]); 18] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("hostPath", &["path"]),
    ("local", &["path"]),
    ("nfs", &["server", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Judges a source of this kind.
pub(super) fn validate(kind: &str, source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let known = REQUIRED.iter().find(|(known, _)| *known == kind);
    for field in known.into_iter().flat_map(|(_, fields)| *fields) {
        let pointer = format!("/{field}");
        if text(source, &pointer).is_empty() && items(source, &pointer).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    match kind {
        "hostPath" => {
            let at = path.child("path");
            no_dot_dot(text(source, "/path"), &at, errors);
            let kinds = &HOST_PATH_TYPES;
            names::one_of(errors, source, "type", path, kinds);
        }
        "local" => no_dot_dot(text(source, "/path"), &path.child("path"), errors),
        "gitRepo" => below(text(source, "/directory"), &path.child("directory"), errors),
        "nfs" if !text(source, "/path").starts_with('/') => errors.push(FieldError::invalid(
            &path.child("path"),
            text(source, "/path"),
            "must be an absolute path",
        )),
        "iscsi" => iscsi(source, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "flexVolume" => own_options(source, path, errors),
        "awsElasticBlockStore" | "gcePersistentDisk"
            if !(0..=255).contains(&int(source, "/partition")) =>
        {
            errors.push(FieldError::invalid(
                &path.child("partition"),
                int(source, "/partition"),
                "must be between 0 and 255, inclusive",
            ));
        }
        _ => {}
    }
}

/// Judges the name of a CSI driver.
pub(super) fn driver_name(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    for why in names::dns_subdomain(&name.to_lowercase()) {
        errors.push(FieldError::invalid(path, name, &why));
    }
}

fn iscsi(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["targetPortal", "iqn"] {
        if text(source, &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    for (field, place) in [("iqn", "iqn"), ("initiatorName", "initiatorname")] {
        let name = text(source, &format!("/{field}"));
        let kinds = ["iqn", "eui", "naa"];
        if !name.is_empty() && !kinds.iter().any(|kind| name.starts_with(kind)) {
            errors.push(FieldError::invalid(
                &path.child(place),
                name,
                "must be valid format starting with iqn, eui, or naa",
            ));
        }
    }
    unit_number(source, path, errors);
    let asks = flag(source, "/chapAuthDiscovery") || flag(source, "/chapAuthSession");
    if asks && present(source, "/secretRef").is_none() {
        errors.push(FieldError::required(&path.child("secretRef"), ""));
    }
}

fn fibre_channel(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let targets = items(source, "/targetWWNs");
    let ids = items(source, "/wwids");
    let at = path.child("targetWWNs");
    match (targets, ids) {
        ([], []) => errors.push(FieldError::required(
            &at,
            "must specify either targetWWNs or wwids, but not both",
        )),
        ([_, ..], [_, ..]) => errors.push(FieldError::invalid(
            &at,
            targets.to_vec(),
            "targetWWNs and wwids can not be specified simultaneously",
        )),
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    if present(source, "/lun").is_none() {
        errors.push(FieldError::required(
            &path.child("lun"),
            "lun is required if targetWWNs is specified",
        ));
    }
    unit_number(source, path, errors);
}

fn unit_number(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let number = int(source, "/lun");
    if !(0..=255).contains(&number) {
        errors.push(FieldError::invalid(
            &path.child("lun"),
            number,
            "must be between 0 and 255, inclusive",
        ));
    }
}

fn own_options(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for key in map(source, "/options").into_iter().flatten().map(|it| it.0) {
        let owner = key.split('/').next().unwrap_or_default();
        let owner = format!(".{}", owner.to_lowercase());
        if owner.ends_with(".kubernetes.io") || owner.ends_with(".k8s.io") {
            errors.push(FieldError::invalid(
                &path.child("options").key(key),
                key.as_str(),
                "kubernetes.io and k8s.io namespaces are reserved",
            ));
        }
    }
}

/// A fault unless `value` stays below the directory it is relative to.
pub(super) fn below(value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_dot_dot(value, path, errors);
}

/// A fault if a part of the path leads upwards.
pub(super) fn no_dot_dot(value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}
