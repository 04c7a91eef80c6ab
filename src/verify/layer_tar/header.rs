//! One header, read like Go reads it.

pub(super) type Block = [u8; 512];

/// The formats that Go distinguishes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

/// The fields of a header that decide where the next one is.
pub(super) struct Header {
    pub kind: u8,
    pub size: i64,
    /// Whether the name ends in a slash, which marks folders in old headers.
    pub is_slashed: bool,
}

impl Header {
    pub fn parse(block: &Block) -> Result<Header, &'static str> {
        let field = |range: std::ops::Range<usize>| block.get(range).unwrap_or_default();
        let sum = octal(field(148..156)).ok_or("a header's checksum is not a number")?;
        if !checksums(block).contains(&sum) {
            return Err("a header's checksum is wrong");
        }
        let numeric = |range, wrong| number(field(range)).ok_or(wrong);
        let size = numeric(124..136, "size is not a number")?;
        numeric(100..108, "mode is not a number")?;
        numeric(108..116, "uid is not a number")?;
        numeric(116..124, "gid is not a number")?;
        numeric(136..148, "mtime is not a number")?;
        let format = format(block);
        if format != Format::V7 {
            numeric(329..337, "devmajor is not a number")?;
            numeric(337..345, "devminor is not a number")?;
        }
        if format == Format::Star {
            numeric(476..488, "atime is not a number")?;
            numeric(488..500, "ctime is not a number")?;
        }
        let name = text(field(0..100));
        let has_prefix = match format {
            Format::Ustar => !text(field(345..500)).is_empty(),
            Format::Star => !text(field(345..476)).is_empty(),
            Format::Gnu | Format::V7 => false,
        };
        Ok(Header {
            kind: field(156..157).first().copied().unwrap_or_default(),
            size,
            is_slashed: name.ends_with(b"/") || (name.is_empty() && has_prefix),
        })
    }

    /// Whether entries of this type have no data, whatever their size field says.
    pub fn is_bare(&self) -> bool {
        matches!(self.kind, b'1'..=b'6')
    }

    /// The same, also by name: old tars have no type for folders.
    pub fn has_no_data(&self) -> bool {
        self.is_bare() || (self.kind == 0 && self.is_slashed)
    }
}

pub(super) fn format(block: &Block) -> Format {
    let at = |range: std::ops::Range<usize>, text: &[u8]| block.get(range) == Some(text);
    if at(257..263, b"ustar\0") {
        return if at(508..512, b"tar\0") {
            Format::Star
        } else {
            Format::Ustar
        };
    }
    match at(257..265, b"ustar  \0") {
        true => Format::Gnu,
        false => Format::V7,
    }
}

/// The sum of all bytes, with blanks for the sum itself; and the sum of old tars, which treat bytes as signed.
fn checksums(block: &Block) -> [i64; 2] {
    let mut sums = [0, 0];
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        sums[0] += i64::from(byte);
        sums[1] += i64::from(byte.cast_signed());
    }
    sums
}

/// The text before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A field in octal or base 256.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(byte) if byte & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// A field in base 256, marked by its first bit, in two's complement. `None` beyond 63 bits and a sign.
pub(crate) fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let inverted = if first & 0x40 == 0 { 0 } else { 0xff };
    let first = u64::from((first ^ inverted) & 0x7f);
    let magnitude = rest.iter().try_fold(first, |number, byte| {
        Some(number.checked_mul(256)? | u64::from(byte ^ inverted))
    })?;
    let magnitude = i64::try_from(magnitude).ok()?;
    Some(if inverted == 0 { magnitude } else { !magnitude })
}

/// A field of octal digits, with any blanks and NULs around them.
fn octal(field: &[u8]) -> Option<i64> {
    let is_digit = |byte: &u8| !matches!(byte, 0 | b' ');
    let (first, last) = (field.iter().position(is_digit), field.iter().rposition(is_digit));
    let (Some(first), Some(last)) = (first, last) else {
        return Some(0);
    };
    let digits = text(field.get(first..=last)?);
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
