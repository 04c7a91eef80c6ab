//! CBOR, as far as COSE needs it: RFC 8949 in its deterministic encoding (section 4.2.1), except that keys of maps may
//! have any order. Everything else is refused, so that equal content has one spelling.

/// Deepest nesting.
const MAX_DEPTH: usize = 8;
/// Most items of an array or map.
const MAX_ITEMS: u64 = 1000;
/// Most values in all.
const MAX_VALUES: usize = 10_000;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cbor<'b> {
    Integer(i128),
    Bytes(&'b [u8]),
    Text(&'b str),
    Array(Vec<Cbor<'b>>),
    /// No key occurs twice.
    Map(Vec<(Cbor<'b>, Cbor<'b>)>),
    Tagged(u64, Box<Cbor<'b>>),
    Bool(bool),
    Null,
}

impl<'b> Cbor<'b> {
    /// Parses bytes that are one value.
    ///
    /// # Errors
    ///
    /// If they are not, or exceed a limit.
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Cbor<'b>, String> {
        let mut reader = CborReader {
            rest: bytes,
            left: MAX_VALUES,
        };
        let value = reader.value(0)?;
        match reader.rest.is_empty() {
            true => Ok(value),
            false => Err("bytes after the value".into()),
        }
    }

    pub(super) fn bytes(&self) -> Option<&'b [u8]> {
        match self {
            Cbor::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&'b str> {
        match self {
            Cbor::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a map.
    pub(super) fn get(&self, key: &Cbor<'_>) -> Option<&Cbor<'b>> {
        let Cbor::Map(pairs) = self else {
            return None;
        };
        pairs
            .iter()
            .find(|(found, _)| found == key)
            .map(|(_, value)| value)
    }
}

struct CborReader<'b> {
    rest: &'b [u8],
    /// Number of further values that may come.
    left: usize,
}

impl<'b> CborReader<'b> {
    fn take(&mut self, count: u64) -> Result<&'b [u8], String> {
        let count = usize::try_from(count).map_err(|_| "a length beyond all memory")?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends in a value")?;
        self.rest = rest;
        Ok(taken)
    }

    /// The major type of the next value, its argument, and the five bits that say how long that is.
    fn head(&mut self) -> Result<(u8, u64, u8), String> {
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, short) = (first >> 5, first & 0x1f);
        let (length, least) = match short {
            0..24 => return Ok((major, short.into(), short)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err("an indefinite or reserved length".into()),
        };
        let bytes = self.take(length)?;
        let argument = bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        if argument < least && major != 7 {
            return Err("a number in more bytes than it needs".into());
        }
        Ok((major, argument, short))
    }

    fn value(&mut self, depth: usize) -> Result<Cbor<'b>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("more than {MAX_VALUES} values"))?;
        let (major, argument, short) = self.head()?;
        if matches!(major, 4 | 5) && argument > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} items"));
        }
        Ok(match major {
            0 => Cbor::Integer(argument.into()),
            1 => Cbor::Integer(-1 - i128::from(argument)),
            2 => Cbor::Bytes(self.take(argument)?),
            3 => {
                let text = std::str::from_utf8(self.take(argument)?);
                Cbor::Text(text.map_err(|_| "text that is not UTF-8")?)
            }
            4 => {
                let items = (0..argument).map(|_| self.value(depth + 1));
                Cbor::Array(items.collect::<Result<_, _>>()?)
            }
            5 => {
                let mut pairs: Vec<(Cbor<'b>, Cbor<'b>)> = Vec::new();
                for _ in 0..argument {
                    let key = self.value(depth + 1)?;
                    if !matches!(key, Cbor::Integer(_) | Cbor::Text(_)) {
                        return Err("a key that is neither a number nor text".into());
                    }
                    if pairs.iter().any(|(known, _)| *known == key) {
                        return Err("a key that occurs twice".into());
                    }
                    pairs.push((key, self.value(depth + 1)?));
                }
                Cbor::Map(pairs)
            }
            6 => Cbor::Tagged(argument, Box::new(self.value(depth + 1)?)),
            _ => match short {
                20 => Cbor::Bool(false),
                21 => Cbor::Bool(true),
                22 => Cbor::Null,
                _ => return Err("a floating-point number or simple value".into()),
            },
        })
    }
}

/// Writes the structure that COSE signs: `["Signature1", protected, h'', payload]` (RFC 9052, section 4.4).
pub(super) fn signature1(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x84, 0x6a];
    bytes.extend_from_slice(b"Signature1");
    for part in [protected, b"", payload] {
        if let Ok(length) = u8::try_from(part.len()) {
            match length {
                0..24 => bytes.push(0x40 | length),
                _ => bytes.extend_from_slice(&[0x58, length]),
            }
        } else if let Ok(length) = u16::try_from(part.len()) {
            bytes.push(0x59);
            bytes.extend_from_slice(&length.to_be_bytes());
        } else {
            // Envelopes are smaller than 4 GiB.
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.push(0x5a);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_spelling() {
        for (bytes, expected) in [
            (&[0x00][..], Ok(Cbor::Integer(0))),
            (&[0x18, 0x18], Ok(Cbor::Integer(24))),
            (&[0x38, 0x22], Ok(Cbor::Integer(-35))),
            (
                &[0x3b, 255, 255, 255, 255, 255, 255, 255, 255],
                Ok(Cbor::Integer(-(1 << 64))),
            ),
            (&[0x42, 1, 2], Ok(Cbor::Bytes(&[1, 2]))),
            (&[0x61, b'a'], Ok(Cbor::Text("a"))),
            (&[0xf5], Ok(Cbor::Bool(true))),
            (&[0xc1, 0x01], Ok(Cbor::Tagged(1, Box::new(Cbor::Integer(1))))),
            (&[0x18, 0x17], Err("a number in more bytes than it needs")),
            (&[0x19, 0x00, 0xff], Err("a number in more bytes than it needs")),
            (&[0x5f], Err("an indefinite or reserved length")),
            (&[0x43, 1, 2], Err("it ends in a value")),
            (
                &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
                Err("it ends in a value"),
            ),
            (&[], Err("it ends in a value")),
            (&[0x00, 0x00], Err("bytes after the value")),
            (&[0x61, 0xff], Err("text that is not UTF-8")),
            (&[0xa2, 1, 2, 1, 3], Err("a key that occurs twice")),
            (&[0xa1, 0x80, 2], Err("a key that is neither a number nor text")),
            (
                &[0xf9, 0x3c, 0x00],
                Err("a floating-point number or simple value"),
            ),
            (&[0xf8, 0x14], Err("a floating-point number or simple value")),
            (&[0x9a, 0, 1, 0, 0], Err("more than 1000 items")),
            (&[0x81; 20], Err("nested deeper than 8")),
        ] {
            assert_eq!(Cbor::parse(bytes), expected.map_err(String::from), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_signed_is_written_in_the_shortest_form() {
        for length in [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 24] {
            let payload = vec![7; length];
            let bytes = signature1(&[1, 2], &payload);
            let Cbor::Array(parts) = Cbor::parse(&bytes).unwrap() else {
                panic!("not an array");
            };
            let expected = [
                Cbor::Text("Signature1"),
                Cbor::Bytes(&[1, 2]),
                Cbor::Bytes(&[]),
                Cbor::Bytes(&payload),
            ];
            assert_eq!(parts, expected, "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Cbor::parse(&bytes);
        }
    }
}
