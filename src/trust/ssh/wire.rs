//! The data types of SSH: RFC 4251, section 5.

/// Why data is not what SSH writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(pub String);

impl Malformed {
    /// With this reason.
    pub fn new(reason: impl Into<String>) -> Malformed {
        Malformed(reason.into())
    }
}

/// Reads data from start to end.
#[derive(Debug, Clone)]
pub(super) struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Malformed::new("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Skips bytes that must be these.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        match self.take(bytes.len())? == bytes {
            true => Ok(()),
            false => Err(Malformed::new("it begins otherwise")),
        }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)
            .map(|bytes| bytes.first().copied().unwrap_or_default())
    }

    /// A number of four bytes.
    pub fn number(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Bytes with their length before them.
    pub fn string(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A string that is text.
    pub fn text(&mut self) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed::new("a name in it is not text"))
    }

    /// A number of any size, as bytes without leading zeros.
    pub fn integer(&mut self) -> Result<&'b [u8], Malformed> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Malformed::new("a number in it is negative"));
        }
        Ok(without_zeros(bytes))
    }

    /// Refuses anything that is left.
    pub fn end(&self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed::new("data follows its end")),
        }
    }
}

/// Bytes of a number without leading zeros.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Appends what [`Reader`] reads.
pub(super) trait Write {
    /// A string.
    fn put(&mut self, bytes: impl AsRef<[u8]>);

    /// A number of any size that is not negative.
    fn put_integer(&mut self, bytes: &[u8]);
}

impl Write for Vec<u8> {
    fn put(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        // What is written here was read with a length of four bytes, or is short.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.extend(length.to_be_bytes());
        self.extend_from_slice(bytes);
    }

    fn put_integer(&mut self, bytes: &[u8]) {
        let bytes = without_zeros(bytes);
        let mut positive = Vec::with_capacity(bytes.len() + 1);
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            positive.push(0);
        }
        positive.extend_from_slice(bytes);
        self.put(positive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        for number in [&[][..], &[0], &[1, 2], &[0x80], &[0, 0, 0xff]] {
            bytes.put_integer(number);
        }
        bytes.put("text");
        // RFC 4251: 0x80 has a zero before it.
        assert_eq!(
            bytes[..22],
            [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 0, 0x80, 0, 0
            ]
        );
        let mut reader = Reader(&bytes);
        for expected in [&[][..], &[], &[1, 2], &[0x80], &[0xff]] {
            assert_eq!(reader.integer().unwrap(), expected);
        }
        assert_eq!(reader.text().unwrap(), "text");
        reader.end().unwrap();
        assert!(reader.byte().is_err());
    }

    #[test]
    fn lengths_are_not_trusted() {
        assert!(Reader(&[0xff, 0xff, 0xff, 0xff, 1]).string().is_err());
        assert!(Reader(&[0, 0, 0]).number().is_err());
        assert!(Reader(&[0, 0, 0, 1, 0x80]).integer().is_err());
        assert!(Reader(&[0, 0, 0, 1, 0xff]).text().is_err());
        assert!(Reader(&[0]).end().is_err());
    }
}
