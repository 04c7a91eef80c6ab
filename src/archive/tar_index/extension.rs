//! Extension headers, PAX's and GNU's, which describe the next entry.

use tar::Header;

use super::header::{check_numbers, tar};
use crate::error::Problem;

/// The pending extension headers for the next entry.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) pax_path: Option<String>,
    pub(super) pax_size: Option<u64>,
    /// A PAX header was read; readers treat a second one differently.
    pub(super) pax: bool,
    pub(super) pax_link: Option<String>,
    pub(super) long_name: Option<String>,
    pub(super) long_link: Option<String>,
}

impl Extension {
    /// Whether an entry must follow.
    pub(super) fn is_pending(&self) -> bool {
        self.pax || self.long_name.is_some() || self.long_link.is_some()
    }

    /// The name of the entry with this header.
    pub(super) fn name(&self, header: &Header) -> Result<String, Problem> {
        match (&self.pax_path, &self.long_name) {
            (Some(pax), Some(gnu)) if pax != gnu => Err(tar("a PAX header and a long name give two names")),
            (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
            (None, None) => String::from_utf8(header.path_bytes().into_owned())
                .map_err(|_| tar("a name that is not UTF-8")),
        }
    }

    /// The target of the link with this header.
    pub(super) fn target(&self, header: &Header) -> Result<String, Problem> {
        match (&self.pax_link, &self.long_link) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                Err(tar("a PAX header and a long link name give two targets"))
            }
            (Some(target), _) | (None, Some(target)) => Ok(target.clone()),
            (None, None) => {
                let target = header.link_name_bytes().unwrap_or_default();
                String::from_utf8(target.into_owned()).map_err(|_| tar("a link to a name that is not UTF-8"))
            }
        }
    }

    /// Adds the records of a PAX header for the next entry.
    pub(super) fn take_in(&mut self, records: &[(&str, &[u8])]) -> Result<(), Problem> {
        self.pax = true;
        check_numbers(records)?;
        for (key, value) in records {
            let text = || std::str::from_utf8(value).map_err(|_| tar(format!("PAX {key} is not UTF-8")));
            match *key {
                // Go replaces an empty one by the header's value, other readers do not.
                "path" | "linkpath" if value.is_empty() => return Err(tar(format!("PAX {key} is empty"))),
                "path" => self.pax_path = Some(text()?.to_string()),
                "linkpath" => self.pax_link = Some(text()?.to_string()),
                "size" => {
                    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                    let size = text()?.parse().ok().filter(|_| digits);
                    self.pax_size = Some(size.ok_or_else(|| tar("PAX size is not a number"))?);
                }
                key if key.starts_with("GNU.sparse.") || key == "SCHILY.realsize" => {
                    return Err(tar("sparse entries are not read"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
