//! Keys: the core/v1 `Secret`. Read, never written back and never printed.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// Key of a [`Secret`]'s data that holds the password of a peer.
pub const PASSWORD_KEY: &str = "password";

/// A core/v1 `Secret`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// `v1`.
    pub api_version: String,
    /// `Secret`.
    pub kind: String,
    /// Name.
    pub metadata: ObjectMeta,
    /// Type, such as `Opaque`; not looked at.
    #[serde(default, rename = "type")]
    pub secret_type: Option<String>,
    /// Whether Kubernetes lets it change; not looked at.
    #[serde(default)]
    pub immutable: Option<bool>,
    /// Values in base64.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Values as text; wins over `data`.
    #[serde(default)]
    pub string_data: BTreeMap<String, String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.metadata.name)
            .finish_non_exhaustive()
    }
}
