//! Image configs: OCI image specification, "Image Configuration".

use super::{Digest, Platform, json, schema};

/// The fields of an image config that sealift needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The platform that the image runs on.
    pub platform: Platform,
    /// Digests of the uncompressed layer tars, base first.
    pub diff_ids: Vec<Digest>,
}

#[derive(serde::Deserialize)]
struct Fields {
    os: String,
    architecture: String,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Parses a config's stored bytes.
    ///
    /// # Errors
    ///
    /// The error says what is missing or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Config, String> {
        let fields: Fields = json::decode(bytes, &schema::CONFIG).map_err(|error| error.to_string())?;
        if fields.rootfs.kind != "layers" {
            return Err(format!(
                "rootfs.type is {:?}, expected \"layers\"",
                fields.rootfs.kind
            ));
        }
        Ok(Config {
            platform: Platform {
                os: fields.os,
                architecture: fields.architecture,
                variant: fields.variant.filter(|text| !text.is_empty()),
                os_version: fields.os_version,
                os_features: Vec::new(),
            },
            diff_ids: fields.rootfs.diff_ids.unwrap_or_default(),
        })
    }
}
