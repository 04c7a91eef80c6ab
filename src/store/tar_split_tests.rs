use std::io::Write as _;

use super::*;
use crate::error::ErrorKind;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn segment(bytes: &[u8], position: usize) -> String {
    let payload = STANDARD.encode(bytes);
    format!("{{\"type\":2,\"payload\":\"{payload}\",\"position\":{position}}}\n")
}

/// The entries as text, and all bytes of segments, read in pieces of this size.
fn read(stored: &[u8], limit: u64, piece: usize) -> Result<(Vec<String>, Vec<u8>)> {
    let mut entries = Entries::new(stored, limit, Place::default())?;
    let (mut names, mut all) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; piece];
    while let Some(entry) = entries.next_entry()? {
        match entry {
            Entry::File { name, size } => names.push(format!("{} {size}", name.escape_ascii())),
            Entry::Segment => loop {
                let count = entries.take(&mut buffer)?;
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&buffer[..count]);
            },
        }
    }
    assert!(entries.line.capacity() <= 2 * MAX_LINE && entries.payload.capacity() <= 2 * MAX_LINE);
    Ok((names, all))
}

fn sizes(stored: &[u8]) -> Result<u64> {
    let mut entries = Entries::new(stored, u64::MAX, Place::default())?;
    let mut sum = 0;
    while let Some(entry) = entries.next_entry()? {
        sum += match entry {
            Entry::File { size, .. } => size,
            Entry::Segment => entries.skip_segment()?,
        };
    }
    Ok(sum)
}

#[test]
fn entries_as_docker_writes_them() {
    let text = [
        &segment(b"header", 0)[..],
        "{\"type\":1,\"name\":\"etc/\",\"payload\":null,\"position\":1}\n",
        "{\"type\":1,\"name\":\"a\\u003cb\",\"size\":7,\"payload\":\"tPOUxvDfCF0=\",\"position\":2}\n",
        "{\"type\":1,\"name_raw\":\"/w==\",\"size\":8,\"payload\":\"tPOUxvDfCF0=\",\"position\":3}\n",
        "{\"type\":2,\"payload\":\"\",\"position\":4}\n",
        &segment(b"end", 5),
    ]
    .concat();
    for piece in [1, 100] {
        let (names, bytes) = read(&gzip(&text), 1 << 20, piece).unwrap();
        assert_eq!(names, ["a<b 7", "\\xff 8"]);
        assert_eq!(bytes, b"headerend");
    }
    assert_eq!(sizes(&gzip(&text)).unwrap(), 9 + 7 + 8);
    assert_eq!(sizes(&gzip("")).unwrap(), 0);
}

#[test]
fn a_long_segment_comes_in_pieces() {
    // Around the length of a line that is read at once, and of a piece that is decoded at once.
    let lengths = (49_080..49_180).chain([24_576, 24_577, 65_536, 98_304, 1_000_003]);
    for length in lengths {
        let long: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let text = segment(&long, 0) + &segment(b"next", 1);
        let stored = gzip(&text);
        let (_, bytes) = read(&stored, u64::MAX, 10_000).unwrap();
        assert_eq!(bytes, [&long[..], b"next"].concat(), "{length}");
        assert_eq!(sizes(&stored).unwrap(), u64::from(length) + 4);
        // Entries that are not read are skipped.
        let mut entries = Entries::new(&stored[..], u64::MAX, Place::default()).unwrap();
        assert_eq!(entries.next_entry().unwrap(), Some(Entry::Segment));
        assert_eq!(entries.next_entry().unwrap(), Some(Entry::Segment));
        assert_eq!(entries.skip_segment().unwrap(), 4);
    }
}

#[test]
fn what_tar_split_does_not_write_is_refused() {
    let long = |end: &str| {
        let payload = STANDARD.encode(vec![0; 90_000]);
        format!("{{\"type\":2,\"payload\":\"{payload}{end}")
    };
    for (text, says) in [
        ("{\"type\":3,\"position\":0}\n".into(), "of type 3"),
        ("{\"type\":0,\"position\":0}\n".into(), "of type 0"),
        ("{\"position\":0}\n".into(), "missing field"),
        ("{\"type\":2}\n".into(), "missing field"),
        ("{\"type\":2,\"position\":1}\n".into(), "position 1 where 0"),
        (segment(b"", 0) + &segment(b"", 2), "position 2 where 1"),
        (segment(b"", 0) + &segment(b"", 0), "position 0 where 1"),
        (
            "{\"type\":2,\"type\":1,\"position\":0}\n".into(),
            "duplicate field",
        ),
        (
            "{\"type\":1,\"size\":1,\"size\":2,\"position\":0}\n".into(),
            "duplicate field",
        ),
        (
            "{\"type\":1,\"offset\":1,\"position\":0}\n".into(),
            "unknown field",
        ),
        (
            "{\"type\":1,\"size\":-1,\"position\":0}\n".into(),
            "invalid value",
        ),
        (
            "{\"type\":1,\"size\":18446744073709551616,\"position\":0}\n".into(),
            "invalid type",
        ),
        (
            "{\"type\":1,\"name\":\"a\",\"name_raw\":\"YQ==\",\"position\":0}\n".into(),
            "two names",
        ),
        (
            "{\"type\":1,\"name_raw\":\"?\",\"position\":0}\n".into(),
            "nvalid",
        ),
        ("{\"type\":2,\"payload\":\"?\",\"position\":0}\n".into(), "nvalid"),
        (
            "{\"type\":2,\"payload\":\"YQ\",\"position\":0}\n".into(),
            "nvalid",
        ),
        ("{\"type\":2,\"position\":0} {}\n".into(), "trailing"),
        ("{\"type\":2,\"position\":0}".into(), "middle of a line"),
        ("\n".into(), "EOF"),
        (
            format!("{{\"type\":1,\"name\":\"{}\"", "a".repeat(MAX_LINE)),
            "too long",
        ),
        (long(""), "middle of a line"),
        (long("\""), "does not end with its position"),
        (long("\",\"position\":0}"), "does not end with its position"),
        (
            long("\",\"position\":0,\"size\":1}\n"),
            "does not end with its position",
        ),
        (long("\",\"position\":1}\n"), "position 1 where 0"),
        (long("\n\",\"position\":0}\n"), "nvalid"),
        (long("=AAA\",\"position\":0}\n"), "nvalid"),
    ] {
        let error = read(&gzip(&text), u64::MAX, 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Content);
        let shown: String = text.chars().take(80).collect();
        assert!(error.to_string().contains(says), "{shown}: {error}");
        assert!(sizes(&gzip(&text)).is_err(), "{shown}");
    }
}

#[test]
fn a_file_that_is_cut_damaged_or_too_large_is_refused() {
    let text: String = (0..500).map(|at| segment(&[1; 512], at)).collect();
    let stored = gzip(&text);
    assert_eq!(sizes(&stored).unwrap(), 500 * 512);
    for cut in [0, 1, 9, 20, stored.len() / 2, stored.len() - 9, stored.len() - 1] {
        assert!(sizes(&stored[..cut]).is_err(), "{cut}");
    }
    assert!(sizes(text.as_bytes()).is_err());
    assert!(sizes(&[&stored[..], b"x"].concat()).is_err());
    let error = read(&stored, 1000, 100).unwrap_err();
    assert!(error.to_string().contains("more than 1000"), "{error}");
}
