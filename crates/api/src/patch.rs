//! Patches: what turns a stored object into the one a client wants.
//!
//! A patch is applied to a tree; what comes out goes through [`codec::conform`](crate::codec::conform)
//! and then the write path like any other update.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::Status;

/// The kinds of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`: RFC 6902.
    Json,
    /// `application/merge-patch+json`: RFC 7386.
    Merge,
    /// `application/strategic-merge-patch+json`: lists merged by the schema's keys.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply,
}

impl PatchType {
    /// The kind of a body with this `Content-Type`.
    ///
    /// # Errors
    ///
    /// 415.
    pub fn of_content_type(content_type: &str) -> Result<Self, Status> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::unsupported_patch_type()),
        }
    }
}

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;
