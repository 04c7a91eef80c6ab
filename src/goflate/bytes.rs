//! Fixed buffers, and loads from them without bounds checks.
//!
//! A window is an array of a power of two plus [`SLACK`] bytes. An index is masked to the power of two, so a
//! load of up to eight bytes stays inside. Correct callers pass smaller indices anyway.

/// The size of a window beyond a power of two: a load at its last byte may reach this far.
pub(super) const SLACK: usize = 8;

/// An array on the heap, all zero.
pub(super) fn boxed<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("it was made with N items"),
    }
}

/// Eight bytes at an index as a little-endian number.
#[inline(always)]
pub(super) fn load64<const N: usize>(window: &[u8; N], at: usize) -> u64 {
    let at = at & (N - SLACK - 1);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Four bytes at an index as a little-endian number.
#[inline(always)]
pub(super) fn load32<const N: usize>(window: &[u8; N], at: usize) -> u32 {
    let at = at & (N - SLACK - 1);
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&window[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// One byte at an index.
#[inline(always)]
pub(super) fn load8<const N: usize>(window: &[u8; N], at: usize) -> u8 {
    window[at & (N - SLACK - 1)]
}

/// Number of equal bytes at two indices, up to a limit.
///
/// Bytes after the limit may be loaded and are not counted. The two may overlap.
#[inline(always)]
pub(super) fn equal<const N: usize>(window: &[u8; N], a: usize, b: usize, limit: usize) -> usize {
    let mut count = 0;
    while count < limit {
        let difference = load64(window, a + count) ^ load64(window, b + count);
        if difference != 0 {
            return limit.min(count + (difference.trailing_zeros() >> 3) as usize);
        }
        count += 8;
    }
    limit
}
