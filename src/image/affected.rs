//! Images that something wrong affects.

use std::fmt;
use std::sync::Arc;

use crate::oci::Digest;

/// An image that uses what a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct AffectedImage {
    /// Its repository, as the registry names it.
    #[serde(serialize_with = "text")]
    pub repository: Arc<str>,
    /// Its tag; `None` if it is named by its digest.
    pub tag: Option<String>,
    /// Digest of its manifest or index; `None` if its tag leads nowhere.
    pub digest: Option<Digest>,
}

fn text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for AffectedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tag, self.digest) {
            (Some(tag), _) => write!(f, "{}:{tag}", self.repository),
            (None, Some(digest)) => write!(f, "{}@{digest}", self.repository),
            (None, None) => f.write_str(&self.repository),
        }
    }
}
