//! Headers and PAX records, accepted only if all readers understand them the same way.

use std::collections::HashSet;

use tar::Header;

use crate::error::Problem;
use crate::verify::layer_tar::base_256;

pub(super) fn tar(reason: impl Into<String>) -> Problem {
    Problem::Tar {
        reason: reason.into(),
    }
}

/// Parses PAX records: `length key=value\n`, where length counts the whole record.
///
/// Not by the tar crate's iterator, which ends a record at any newline and ends without an error at an empty
/// line, where others continue.
pub(super) fn pax_records(mut bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, Problem> {
    let malformed = || tar("a malformed PAX record");
    let mut records: Vec<(&str, &[u8])> = Vec::new();
    let mut keys = HashSet::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let digits = bytes.get(..space).ok_or_else(malformed)?;
        if digits.is_empty() || digits.len() > 7 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed());
        }
        let length = digits
            .iter()
            .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let record = bytes.get(space + 1..length).ok_or_else(malformed)?;
        let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = record.split_at(equals);
        let key = std::str::from_utf8(key).map_err(|_| malformed())?;
        if key.is_empty() || !keys.insert(key) {
            return Err(tar(format!("the PAX key {key:?} occurs twice or is empty")));
        }
        let value = value.get(1..).unwrap_or_default();
        let is_name = matches!(key, "path" | "linkpath" | "uname" | "gname");
        if key.contains('\0') || (is_name && value.contains(&0)) {
            return Err(tar(format!("PAX {key} with a NUL")));
        }
        records.push((key, value));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

/// Checks the records that sealift ignores but at which other readers fail if they are malformed. An empty one
/// leaves the header's value.
pub(super) fn check_numbers(records: &[(&str, &[u8])]) -> Result<(), Problem> {
    for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
        let text = std::str::from_utf8(value).unwrap_or("no number");
        let is_number = match *key {
            "uid" | "gid" => text.parse::<i64>().is_ok(),
            "atime" | "mtime" | "ctime" => {
                let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
                seconds.parse::<i64>().is_ok() && fraction.bytes().all(|byte| byte.is_ascii_digit())
            }
            _ => true,
        };
        if !is_number {
            return Err(tar(format!("PAX {key} is not a number")));
        }
    }
    Ok(())
}

/// The name in a GNU long name entry, which ends in a NUL.
pub(super) fn long_name(bytes: &[u8]) -> Result<String, Problem> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(end);
    if name.is_empty() {
        return Err(tar("a long name that is empty"));
    }
    if rest.iter().any(|byte| *byte != 0) {
        return Err(tar("a long name with data after its end"));
    }
    String::from_utf8(name.to_vec()).map_err(|_| tar("a name that is not UTF-8"))
}

/// Checks that all readers understand a header the same way.
pub(super) fn check_fields(header: &Header) -> Result<(), Problem> {
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    let field = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    // Go reads a ustar header of any version, others read one without a prefix.
    let magic = field(257..265);
    if magic.starts_with(b"ustar") && !matches!(magic, b"ustar\x0000" | b"ustar  \0") {
        return Err(tar("a ustar header of another version"));
    }
    if octal(field(148..156)) != Some(u64::from(sum)) {
        return Err(tar("a header's checksum is wrong, or this is not a tar"));
    }
    // mode, uid, gid, mtime: ignored here, but other readers fail at a malformed one.
    for (name, range) in [
        ("mode", 100..108),
        ("uid", 108..116),
        ("gid", 116..124),
        ("mtime", 136..148),
    ] {
        if !is_number(field(range)) {
            return Err(tar(format!("{name} is not a number")));
        }
    }
    let is_gnu = header.as_gnu().is_some();
    if header.as_ustar().is_some() || is_gnu {
        for (name, range) in [("devmajor", 329..337), ("devminor", 337..345)] {
            if !is_number(field(range)) {
                return Err(tar(format!("{name} is not a number")));
            }
        }
    }
    // Some readers treat text in place of GNU tar's two times as part of the name.
    if is_gnu && !(is_number(field(345..357)) && is_number(field(357..369))) {
        return Err(tar("a GNU header with a name prefix"));
    }
    if header.as_ustar().is_some() && field(508..512) == b"tar\0" {
        return Err(tar("a star header, which has another prefix"));
    }
    Ok(())
}

/// A field of octal digits, padded with blanks or NULs; empty is zero. `None` for anything else.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let text = field.get(start..)?;
    let end = text
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(text.len());
    let (digits, padding) = text.split_at(end);
    if !padding.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Whether this is a number of 63 bits and a sign, in octal or base 256.
fn is_number(field: &[u8]) -> bool {
    match field.first() {
        Some(byte) if byte & 0x80 != 0 => base_256(field).is_some(),
        _ => octal(field).is_some(),
    }
}

/// The header's size field: octal, or base 256 as GNU tar writes it beyond 8 GiB.
pub(super) fn size_of(header: &Header) -> Result<u64, Problem> {
    let field = header.as_bytes().get(124..136).unwrap_or_default();
    match field.first() {
        // 0xff is a negative number. Some readers cut off bits above 64.
        Some(byte) if byte & 0x80 != 0 => {
            if field.get(..4) != Some(&[0x80, 0, 0, 0]) {
                return Err(tar("a size that is negative or too large"));
            }
            header.entry_size().map_err(|error| tar(error.to_string()))
        }
        _ => octal(field).ok_or_else(|| tar("size is not a number")),
    }
}

/// The name without a leading `./` and, for a folder, a trailing slash.
pub(in crate::archive) fn plain_name(name: &str, is_folder: bool) -> Result<&str, Problem> {
    let mut plain = name;
    while let Some(rest) = plain.strip_prefix("./") {
        plain = rest;
    }
    if is_folder {
        plain = plain.strip_suffix('/').unwrap_or(plain);
        if matches!(plain, "" | ".") {
            return Ok(".");
        }
    }
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if plain.split('/').any(odd) {
        return Err(Problem::Name {
            reason: "a name that other readers could place elsewhere".into(),
        });
    }
    Ok(plain)
}

/// The name of an entry that is not a file, as if it were one.
pub(super) fn free_name(name: &str) -> Result<String, Problem> {
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(tar("a label or global header with a name that climbs"));
    }
    Ok(parts.join("/"))
}
