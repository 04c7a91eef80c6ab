//! Writes tars entry by entry, right or wrong.

use tar::{EntryType, Header};

/// A tar that is being written.
#[derive(Default, Clone)]
pub struct TarBuilder(pub Vec<u8>);

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

/// A ustar header as sealift writes it, changed by `change`, with a right checksum.
pub fn header(name: &str, kind: EntryType, size: u64, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let start = &name.as_bytes()[..name.len().min(100)];
    header.as_mut_bytes()[..start.len()].copy_from_slice(start);
    change(&mut header);
    header.set_cksum();
    header
}

pub fn length(bytes: &[u8]) -> u64 {
    bytes.len().try_into().unwrap()
}

impl TarBuilder {
    /// An entry with any header.
    pub fn entry(mut self, header: &Header, data: &[u8]) -> TarBuilder {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        pad(&mut self.0);
        self
    }

    pub fn kind(self, name: &str, kind: EntryType, data: &[u8]) -> TarBuilder {
        self.entry(&header(name, kind, length(data), |_| {}), data)
    }

    pub fn file(self, name: &str, data: &[u8]) -> TarBuilder {
        self.kind(name, EntryType::Regular, data)
    }

    pub fn files(self, files: &[(String, Vec<u8>)]) -> TarBuilder {
        files.iter().fold(self, |tar, (name, data)| tar.file(name, data))
    }

    /// A PAX header with records.
    pub fn pax(self, records: &[(&str, &str)]) -> TarBuilder {
        let mut data = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|length| rest + length.to_string().len() == *length);
            data += &format!("{} {key}={value}\n", length.unwrap());
        }
        self.kind("PaxHeaders/x", EntryType::XHeader, data.as_bytes())
    }

    pub fn raw(mut self, bytes: &[u8]) -> TarBuilder {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The blocks that end an archive.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}
