//! Tars of several formats, changed in fields, records, order and bytes, with their checksums mended.

use std::ops::Range;

use crate::random::Random;

/// An entry, as it is written.
#[derive(Clone)]
pub struct Entry {
    pub header: [u8; 512],
    data: Vec<u8>,
}

pub const USTAR: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";
const V7: &[u8] = b"\0\0\0\0\0\0\0\0";

impl Entry {
    pub fn new(format: &[u8], kind: u8, name: &[u8], data: &[u8]) -> Entry {
        let mut entry = Entry {
            header: [0; 512],
            data: data.to_vec(),
        };
        let size = format!("{:011o}", data.len());
        entry.set(0..100, name);
        for (field, text) in [
            (100..108, "0000644"),
            (108..116, "0000000"),
            (116..124, "0000000"),
            (124..136, size.as_str()),
            (136..148, "14524356540"),
        ] {
            entry.set(field, text.as_bytes());
        }
        entry.header[156] = kind;
        entry.set(257..265, format);
        entry
    }

    /// Sets a field, filled up with NULs.
    pub fn set(&mut self, field: Range<usize>, bytes: &[u8]) {
        let field = &mut self.header[field];
        field.fill(0);
        let count = bytes.len().min(field.len());
        field[..count].copy_from_slice(&bytes[..count]);
    }

    /// Makes the checksum right; with signed bytes, as old tars do, where that is wanted.
    pub fn mend(&mut self, is_signed: bool) {
        self.header[148..156].fill(b' ');
        let of = |byte: &u8| match is_signed {
            true => i32::from(byte.cast_signed()),
            false => i32::from(*byte),
        };
        let sum: i32 = self.header.iter().map(of).sum();
        self.header[148..156].copy_from_slice(format!("{:06o}\0 ", sum.max(0)).as_bytes());
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..)
        .find(|length| rest + length.to_string().len() == *length)
        .unwrap();
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

/// A right archive.
fn archive(random: &mut Random) -> Vec<Entry> {
    let format = random.one_of(&[USTAR, GNU, V7, USTAR, GNU]);
    let mut entries = Vec::new();
    if random.once_in(6) {
        entries.push(Entry::new(GNU, b'V', b"images of today", b""));
    }
    if random.once_in(6) {
        entries.push(Entry::new(
            USTAR,
            b'g',
            b"pax_global_header",
            &record(b"comment", b"x"),
        ));
    }
    if random.once_in(3) {
        entries.push(Entry::new(format, b'5', b"blobs/", b""));
    }
    let dot = if random.once_in(4) { "./" } else { "" };
    for (number, name) in [
        "oci-layout",
        "blobs/sha256/0a",
        "a.json",
        "index.json",
        "d/layer.tar",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{dot}{name}");
        let length = random.one_of(&[&0, &2, &511, &512, &1100]);
        let data = vec![b'0' + u8::try_from(number).unwrap(); *length];
        match random.below(6) {
            0 => {
                entries.push(Entry::new(
                    GNU,
                    b'L',
                    b"././@LongLink",
                    &[name.as_bytes(), b"\0"].concat(),
                ));
                entries.push(Entry::new(GNU, b'0', b"cut off", &data));
            }
            1 => {
                let mut records = record(b"path", name.as_bytes());
                records.extend(record(b"mtime", b"1700000000.5"));
                if random.once_in(2) {
                    records.extend(record(b"size", data.len().to_string().as_bytes()));
                }
                entries.push(Entry::new(USTAR, b'x', b"PaxHeaders/x", &records));
                entries.push(Entry::new(USTAR, b'0', b"cut off", &data));
            }
            2 => {
                let mut entry = Entry::new(USTAR, b'0', b"base", &data);
                entry.set(345..500, name.as_bytes());
                entries.push(entry);
            }
            _ => entries.push(Entry::new(format, b'0', name.as_bytes(), &data)),
        }
    }
    if !random.once_in(3) {
        let mut link = Entry::new(
            format,
            *random.one_of(&[b"1", b"2"]).first().unwrap(),
            b"x/layer.tar",
            b"",
        );
        link.set(157..257, b"../d/layer.tar");
        entries.push(link);
    }
    entries
}

/// A number as tools write it, or nearly so.
fn number(random: &mut Random, length: usize) -> Vec<u8> {
    let mut binary = random.bytes(length);
    match random.below(12) {
        0 => b"0000012".to_vec(),
        1 => b"     12 ".to_vec(),
        2 => b"\0\0 12\0 ".to_vec(),
        3 => b"12\x00345".to_vec(),
        4 => b"8".to_vec(),
        5 => Vec::new(),
        6 => random
            .one_of(&[
                &b"-1"[..],
                b"+1",
                b"0x1",
                b"1_0",
                b" \0 \0",
                b"1 2",
                b"7777777777777777",
            ])
            .to_vec(),
        7 => {
            binary.fill(0);
            binary[0] = 0x80;
            binary[length - 1] = random.byte();
            binary
        }
        8 => {
            binary.fill(0xff);
            binary[length - 1] = random.byte();
            binary
        }
        9 => {
            // Around 63 and 64 bits.
            binary.fill(random.one_of(&[&[0_u8], &[0xff]])[0]);
            binary[0] = if binary[length - 1] == 0 { 0x80 } else { 0xff };
            let at = (length - 8).saturating_sub(random.below(2));
            binary[at] = *random.one_of(&[&0x7f, &0x80, &0xbf, &0xc0, &1, &0xff, &0x81]);
            binary
        }
        10 => {
            binary[0] |= 0x80;
            binary
        }
        _ => binary,
    }
}

fn name(random: &mut Random) -> Vec<u8> {
    let long = vec![b'n'; 100 + random.below(3)];
    random
        .one_of(&[
            &b"index.json"[..],
            b"./index.json",
            b"blobs/sha256/0a",
            b"a/b",
            b"x/",
            b"./",
            b"",
            b".",
            b"../x",
            b"/x",
            b"a//b",
            b"",
            b"a/./b",
            b"\xc3\xa9",
            b"\xff",
            b"a\0b",
            b"a\\b",
            b"blobs",
            b"d",
            &long,
        ])
        .to_vec()
}

fn records(random: &mut Random) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..1 + random.below(3) {
        let key = if random.once_in(2) {
            random.one_of(&[
                &b"path"[..],
                b"linkpath",
                b"size",
                b"mtime",
                b"uid",
                b"uname",
                b"k\0y",
            ])
        } else {
            random.one_of(&[
                &b"atime"[..],
                b"ctime",
                b"gid",
                b"gname",
                b"comment",
                b"SCHILY.xattr.user.x",
                b"GNU.sparse.major",
                b"GNU.sparse.minor",
                b"GNU.sparse.map",
                b"GNU.sparse.numblocks",
                b"GNU.sparse.size",
                b"GNU.sparse.name",
                b"GNU.sparse.offset",
                b"hdrcharset",
                b"k\xffy",
                b"",
            ])
        };
        let value = match (key, random.below(8)) {
            (b"path" | b"linkpath" | b"uname" | b"gname" | b"GNU.sparse.name", 0..7) => name(random),
            (_, 7) => random.bytes(3),
            _ => random
                .one_of(&[
                    &b"0"[..],
                    b"12",
                    b"512",
                    b"1700000000.123456789",
                    b"-1.5",
                    b"+3",
                    b"1.",
                    b".5",
                    b"",
                    b"0x1",
                    b"1e3",
                    b" 1",
                    b"1\n",
                    b"9223372036854775807",
                    b"9223372036854775808",
                    b"1.5x",
                    b"a=b",
                    b"a\0",
                ])
                .to_vec(),
        };
        all.extend(record(key, &value));
    }
    match random.below(12) {
        0 => all.extend(b"\n"),
        1 => all.extend(b"5 a=\n"),
        2 => all.extend(b"99 a=b\n"),
        3 => all.extend(b"07 a=b\n"),
        4 => all.extend(b"6 a=bc\n"),
        5 => {
            let at = random.below(all.len());
            all[at] = random.byte();
        }
        _ => {}
    }
    all
}

/// An extension header before an entry.
fn extension(random: &mut Random) -> Entry {
    let kind = random.one_of(&[b"x", b"g", b"L", b"K", b"x"])[0];
    let data = match kind {
        b'x' | b'g' => records(random),
        _ => [
            name(random),
            random.one_of(&[&b"\0"[..], b"", b"\0a", b"\0\0"]).to_vec(),
        ]
        .concat(),
    };
    Entry::new(
        random.one_of(&[USTAR, GNU]),
        kind,
        random.one_of(&[&b"h"[..], b"index.json"]),
        &data,
    )
}

/// A sparse file in one of GNU tar's four forms, mostly right.
fn sparse(random: &mut Random) -> Vec<Entry> {
    let mut map: Vec<(usize, usize)> = Vec::new();
    let mut end = 0;
    for _ in 0..random.below(7) {
        let (hole, length) = (random.below(3) * 512, random.below(700));
        map.push((end + hole, length));
        end += hole + length;
    }
    let size = end + random.below(2) * 1000;
    let stored = map.iter().map(|(_, length)| length).sum::<usize>();
    let mut data = vec![b's'; (stored + random.below(30) / 29).saturating_sub(random.below(30) / 29)];
    if random.once_in(30) && !map.is_empty() {
        let at = random.below(map.len());
        map[at].0 = random.below(2000);
    }
    let numbers = map.iter().flat_map(|(offset, length)| [offset, length]);
    let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
    let count = (map.len() + random.below(30) / 29).to_string();
    let list = numbers.join(",");
    let mut records = Vec::new();
    let mut say = |key: &str, value: &str| {
        records.extend(record(format!("GNU.sparse.{key}").as_bytes(), value.as_bytes()));
    };
    let real = size.to_string();
    match random.below(4) {
        0 => return vec![old_sparse(&map, size, &data)],
        1 => {
            say("size", &real);
            say("numblocks", &count);
            for (offset, length) in &map {
                say("offset", &offset.to_string());
                say("numbytes", &length.to_string());
            }
        }
        2 => {
            say("major", "0");
            say("minor", "1");
            say("size", &real);
            say("numblocks", &count);
            say("map", &list);
        }
        _ => {
            say("major", "1");
            say("minor", random.one_of(&["0", "0", "0", "1"]));
            say("realsize", &real);
            let mut text = format!("{count}\n");
            text.extend(numbers.iter().map(|number| format!("{number}\n")));
            let mut all = text.into_bytes();
            all.resize(all.len().next_multiple_of(512), 0);
            all.extend(&data);
            data = all;
        }
    }
    vec![
        Entry::new(USTAR, b'x', b"h", &records),
        Entry::new(USTAR, b'0', b"sparse", &data),
    ]
}

/// The form with a map in the header and, beyond four entries, a block behind it.
fn old_sparse(map: &[(usize, usize)], size: usize, data: &[u8]) -> Entry {
    let mut entry = Entry::new(GNU, b'S', b"sparse", data);
    entry.set(483..495, format!("{size:011o}").as_bytes());
    let fields = |map: &[(usize, usize)]| -> Vec<u8> {
        let fields = map
            .iter()
            .map(|(offset, length)| format!("{offset:011o}\0{length:011o}\0"));
        fields.collect::<String>().into_bytes()
    };
    let (here, behind) = map.split_at(map.len().min(4));
    entry.set(386..482, &fields(here));
    if !behind.is_empty() {
        entry.header[482] = 1;
        let mut block = fields(behind);
        block.resize(512, 0);
        entry.data = [&block, data].concat();
    }
    entry
}

/// Changes one thing in the entries.
fn change(entries: &mut Vec<Entry>, random: &mut Random) {
    let at = random.below(entries.len());
    match random.below(16) {
        0..4 => {
            let numbers = [
                100..108,
                108..116,
                116..124,
                124..136,
                136..148,
                329..337,
                337..345,
                345..357,
                357..369,
            ];
            let field = numbers[random.below(numbers.len())].clone();
            let text = number(random, field.len());
            entries[at].set(field, &text);
        }
        4 | 5 => {
            let names = [0..100, 157..257, 265..297, 297..329, 345..500];
            let field = names[random.below(names.len())].clone();
            let text = name(random);
            entries[at].set(field, &text);
        }
        6 => {
            let magics: [&[u8]; 10] = [
                USTAR,
                GNU,
                V7,
                b"ustar\x0001",
                b"ustar\0\0\0",
                b"ustar 00",
                b"ustar\x00  ",
                b"ustar  0",
                b"ustarx00",
                b"USTAR\x0000",
            ];
            let magic = random.one_of(&magics);
            entries[at].set(257..265, magic);
            if random.once_in(3) {
                entries[at].set(508..512, b"tar\0");
            }
            if random.once_in(2) {
                entries[at].set(345..500, random.one_of(&[&b"blobs"[..], &[b'p'; 140]]));
            }
        }
        7 | 8 => {
            entries[at].header[156] =
                random.one_of(&[b"\x00012345670gxLKSVNMXAZD".as_slice()])[random.below(21)]
        }
        9..12 => {
            let extension = extension(random);
            // The last one is a link more often than the others.
            let at = if random.once_in(3) { entries.len() - 1 } else { at };
            entries.insert(at, extension);
        }
        12 => drop(entries.remove(at)),
        13 => {
            let again = entries[at].clone();
            entries.push(again);
        }
        14 => {
            let other = random.below(entries.len());
            entries.swap(at, other);
        }
        _ => {
            let byte = random.below(512);
            entries[at].header[byte] = random.byte();
        }
    }
    if entries.is_empty() {
        entries.push(Entry::new(USTAR, b'0', b"only", b""));
    }
}

pub fn input(random: &mut Random) -> Vec<u8> {
    let entries = archive(random);
    changed(entries, random)
}

/// The same with sparse files, which layers may have.
pub fn layer(random: &mut Random) -> Vec<u8> {
    let mut entries = archive(random);
    for _ in 0..random.below(3) {
        let at = random.below(entries.len());
        entries.splice(at..at, sparse(random));
    }
    changed(entries, random)
}

fn changed(mut entries: Vec<Entry>, random: &mut Random) -> Vec<u8> {
    for _ in 0..random.below(4) {
        change(&mut entries, random);
    }
    let mut bytes = Vec::new();
    for entry in &mut entries {
        if !random.once_in(200) {
            entry.mend(random.once_in(20));
        }
        bytes.extend(entry.header);
        bytes.extend(&entry.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    match random.below(24) {
        0 => bytes.extend([0; 512]),
        1 => {}
        2 => bytes.extend([&[0; 1024][..], b"x"].concat()),
        3 => bytes.truncate(random.below(bytes.len())),
        4 => bytes.extend([&[0; 512][..], &[1; 512], &[0; 1024]].concat()),
        5 => bytes.extend([0; 1024 * 20]),
        6 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            bytes.extend([0; 1024]);
        }
        _ => bytes.extend([0; 1024]),
    }
    bytes
}
