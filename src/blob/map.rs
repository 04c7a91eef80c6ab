//! Bulk reading of blobs over a memory map, one window at a time, so that memory use is constant. The only
//! module with unsafe code.
//!
//! The pages of a window are populated before the window is returned (`MADV_POPULATE_READ`, Linux 5.14), which
//! turns a truncated file or a failing medium into an error. If mapping or populating fails, the window is read
//! by positioned reads instead: they either return the bytes, or an error with its position.
//!
//! After that, the file may still shrink, or its pages may be dropped and fail to load again. Touching such a
//! page raises SIGBUS. The handler replaces the page by zeros and flags the window, and the next call returns
//! an I/O error. The bytes of such a window never count as the file's.
//!
//! The returned slice is the file's own memory, which another process may change at any time. That suits
//! hashing, where a change only alters the digest. To parse or forward what was hashed, use
//! [`crate::blob::reader::BlobReader`], which hashes a private copy.
//!
//! A [`Window`] can be sent from where it is mapped. The kernel copies it to the socket, and fails with EFAULT, not
//! SIGBUS, at a page that is gone. Its sender must find out by other means whether the file has changed since it was
//! hashed, before it sends the last bytes of a blob from private memory.
#![allow(
    unsafe_code,
    reason = "the map and its guard; every block carries its argument"
)]

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::stored::{read_exact_at, shrank, to_u64, unreadable};
use super::{Extent, Stored};
use crate::error::Result;

/// Bytes of a file that are mapped at once.
const WINDOW: u64 = 2 << 20;
/// Windows that can be mapped at the same time; any more are read. Enough for two windows of every client of a registry.
const SLOTS: usize = 2560;
/// Most bytes of a [`Window`] that is read, as it takes memory of the process.
const READ: u64 = 64 << 10;
/// Populating a window that is in memory takes well below this. One that takes longer came from a medium, where
/// reading ahead pays.
const COLD: Duration = Duration::from_millis(1);

/// Returns the stored bytes of a blob in pieces. Each is borrowed until the next call.
pub struct Windows<'a> {
    extents: std::slice::Iter<'a, Extent>,
    extent: Option<&'a Extent>,
    /// Bytes of `extent` that were returned.
    given: u64,
    window: u64,
    held: Held,
    may_map: bool,
}

/// The piece that was returned last.
enum Held {
    Nothing,
    Map(Guarded),
    /// The valid bytes of `buffer`.
    Read(Vec<u8>),
}

impl<'a> Windows<'a> {
    /// Starts at the first byte.
    pub fn new(stored: &'a Stored) -> Windows<'a> {
        Windows {
            extents: stored.extents.iter(),
            extent: None,
            given: 0,
            window: WINDOW,
            held: Held::Nothing,
            may_map: cfg!(target_os = "linux"),
        }
    }

    /// Returns the next piece; `None` after the last. A loop that ends in `None` has had every piece checked
    /// after its use.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::error::Error::Io) with the offset in its file if the file has shrunk or its medium fails. What goes wrong
    /// while a piece is in use is returned by the next call.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>> {
        self.check()?;
        let extent = loop {
            match self.extent {
                Some(extent) if self.given < extent.length => break extent,
                _ => {
                    self.extent = self.extents.next();
                    self.given = 0;
                    if self.extent.is_none() {
                        self.held = Held::Nothing;
                        return Ok(None);
                    }
                }
            }
        };
        let offset = extent.offset.saturating_add(self.given);
        // Windows end on multiples of their size, so that large pages are mapped completely.
        let length = (self.window - offset % self.window).min(extent.length - self.given);
        self.hold(extent, offset, length)?;
        self.given += length;
        Ok(Some(self.held.bytes()))
    }

    fn hold(&mut self, extent: &Extent, offset: u64, length: u64) -> Result<()> {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        if self.may_map {
            let start = Instant::now();
            match Guarded::map(&extent.file, offset, length) {
                Ok(guarded) => {
                    self.held = Held::Map(guarded);
                    if start.elapsed() > COLD {
                        read_ahead(&extent.file, offset.saturating_add(length), self.window);
                    }
                    return Ok(());
                }
                // Disables mapping if this kernel cannot populate or this file cannot be mapped. Otherwise only
                // this window failed, and the read below returns the error.
                Err(error) => self.may_map = error.raw_os_error() == Some(libc::EFAULT),
            }
        }
        let mut buffer = match held {
            Held::Read(buffer) => buffer,
            _ => Vec::new(),
        };
        buffer.resize(to_usize(length), 0);
        read_exact_at(extent, offset, &mut buffer)?;
        self.held = Held::Read(buffer);
        Ok(())
    }

    /// Checks for a fault while the last piece was in use.
    fn check(&self) -> Result<()> {
        self.extent.map_or(Ok(()), |extent| self.held.check(extent))
    }
}

impl Held {
    /// Checks for a fault while this piece of an extent was in use.
    fn check(&self, extent: &Extent) -> Result<()> {
        let Held::Map(guarded) = self else {
            return Ok(());
        };
        if let Some(at) = guarded.fault() {
            return Err(unreadable(
                extent,
                guarded.offset.saturating_add(at),
                io::Error::other("the file shrank or its medium failed while it was read"),
            ));
        }
        // After the new end of a file, the rest of its last page reads as zeros without a fault.
        let end = guarded.offset.saturating_add(guarded.length);
        let now = extent
            .file
            .metadata()
            .map_err(|error| unreadable(extent, guarded.offset, error))?
            .len();
        if now < end {
            return Err(shrank(extent, now));
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Held::Map(guarded) => guarded.bytes(),
            Held::Read(buffer) => buffer,
            Held::Nothing => &[],
        }
    }
}

/// One piece of a blob's stored bytes that owns its map.
pub struct Window {
    held: Held,
    extent: Extent,
}

impl Window {
    /// Maps up to `most` of the stored bytes from `offset` on, or reads some of them if they cannot be mapped. It ends
    /// with its extent at the latest. `None` at the end of the blob.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::error::Error::Io) with the offset in its file if they cannot be read.
    pub fn map(stored: &Stored, offset: u64, most: u64) -> Result<Option<Window>> {
        let Some((extent, offset, length)) = stored.piece(offset, most) else {
            return Ok(None);
        };
        let extent = extent.clone();
        if cfg!(target_os = "linux")
            && let Ok(guarded) = Guarded::map(&extent.file, offset, length)
        {
            let held = Held::Map(guarded);
            return Ok(Some(Window { held, extent }));
        }
        let mut buffer = vec![0; to_usize(length.min(READ))];
        read_exact_at(&extent, offset, &mut buffer)?;
        let held = Held::Read(buffer);
        Ok(Some(Window { held, extent }))
    }

    /// Checks for a fault since it was mapped.
    ///
    /// # Errors
    ///
    /// As [`Windows::next_piece`].
    pub fn check(&self) -> Result<()> {
        self.held.check(&self.extent)
    }
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        self.held.bytes()
    }
}

/// Requests readahead of what comes next. A failure does not affect what is read.
fn read_ahead(file: &File, offset: u64, length: u64) {
    #[cfg(target_os = "linux")]
    {
        let length = std::num::NonZeroU64::new(length);
        let _ = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::WillNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A mapped and populated window whose faults are handled.
struct Guarded {
    /// Dropped after the slot is released, see `drop`.
    map: memmap2::Mmap,
    slot: &'static Slot,
    /// Offset of the window in its file.
    offset: u64,
    length: u64,
    /// Bytes between the start of the first mapped page and the start of the window.
    lead: usize,
}

impl Guarded {
    fn map(file: &File, offset: u64, length: u64) -> io::Result<Guarded> {
        guard_is_installed()?;
        // SAFETY: memmap2 asks that the file does not shrink or change under the map. Shrinking, and a
        // medium that fails, is a fault inside a registered window, which the handler below answers with
        // zeros and the flag. Changing can give other bytes to each look; the slice is only given to
        // callers inside this crate that hash it or send it, and no decision is taken on its bytes. The map
        // is read-only, and no reference to it outlives `self`.
        let map = unsafe {
            memmap2::MmapOptions::new()
                .offset(offset)
                .len(to_usize(length))
                .map(file)?
        };
        let start = map.as_ptr().addr();
        let lead = start % page_size();
        let slot = Slot::claim(start - lead, lead + map.len())
            .ok_or_else(|| io::Error::other("too many windows at once"))?;
        let guarded = Guarded {
            map,
            slot,
            offset,
            length,
            lead,
        };
        #[cfg(target_os = "linux")]
        guarded.map.advise(memmap2::Advice::PopulateRead)?;
        Ok(guarded)
    }

    fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Position in the window of the first fault, if there was one.
    fn fault(&self) -> Option<u64> {
        match self.slot.fault.load(Ordering::Acquire) {
            0 => None,
            at => Some(to_u64((at - 1).saturating_sub(self.lead))),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Before the map is dropped (fields are dropped after this): its addresses may be reused at once.
        self.slot.release();
    }
}

/// One entry of the table that the signal handler reads. Lock-free: the handler may run on any thread at any
/// instruction.
struct Slot {
    /// The pages of the window, in one word so that it is never half-written: number of the first 4 KiB unit,
    /// shifted, and count of units. Zero is free.
    pages: AtomicU64,
    /// One more than the offset of the first fault, from the window's first page; zero is none.
    fault: AtomicUsize,
}

const UNIT: usize = 4096;
const COUNT_BITS: u32 = 16;

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        pages: AtomicU64::new(0),
        fault: AtomicUsize::new(0),
    }
}; SLOTS];

impl Slot {
    fn claim(start: usize, length: usize) -> Option<&'static Slot> {
        let count = to_u64(length.next_multiple_of(page_size()) / UNIT);
        if count >= 1 << COUNT_BITS {
            return None;
        }
        let pages = to_u64(start / UNIT) << COUNT_BITS | count;
        // Looking is cheaper than trying where many slots are taken.
        let mut free = TABLE
            .iter()
            .filter(|slot| slot.pages.load(Ordering::Relaxed) == 0);
        free.find(|slot| {
            let claimed = slot
                .pages
                .compare_exchange(0, pages, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if claimed {
                // Nothing touches the window before it is returned, so no fault is lost.
                slot.fault.store(0, Ordering::Release);
            }
            claimed
        })
    }

    fn release(&self) {
        self.pages.store(0, Ordering::Release);
    }

    /// Offset of `address` from the window's first page.
    fn position(&self, address: usize) -> Option<usize> {
        let pages = self.pages.load(Ordering::Acquire);
        let unit = to_u64(address / UNIT);
        let first = pages >> COUNT_BITS;
        let count = pages & ((1 << COUNT_BITS) - 1);
        let inside = unit >= first && unit - first < count;
        inside.then(|| address.wrapping_sub(to_usize(first) * UNIT))
    }
}

fn page_size() -> usize {
    rustix::param::page_size()
}

/// The previous SIGBUS handler. It is set before ours is installed, so ours always finds it.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the SIGBUS handler once for the process, when the first window is mapped.
fn guard_is_installed() -> io::Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    match INSTALLED.get_or_init(|| install().err().map(|error| error.raw_os_error().unwrap_or(0))) {
        None => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(*code)),
    }
}

fn install() -> io::Result<()> {
    // SAFETY: `sigaction` is a plain C struct of integers and pointers, for which all zeros is a value.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are null or to a live struct of the right type; nothing is changed.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) } != 0 {
        return Err(io::Error::last_os_error());
    }
    PREVIOUS.get_or_init(|| previous);
    // SAFETY: as above, all zeros is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    // On the alternate stack, like the standard library's own handler, which detects stack overflows.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the struct is whole: an empty mask, and a handler of the type that SA_SIGINFO asks for, which
    // is async-signal-safe (see there).
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Handles a fault in a registered window, and passes on every other.
///
/// Async-signal-safe: it reads and writes atomics, reads cells that were set before it was installed, and calls
/// `mmap`, `sigaction` and `raise`, which are bare system calls. It does not allocate or lock.
extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a valid `siginfo_t` for the time of the call, and `si_addr`
    // is what it holds for a SIGBUS that the kernel itself raised (`si_code` above zero).
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr().addr()) };
    match address {
        Some(address) if take_in(address) => {}
        Some(_) => hand_on(signal, info, context),
        // Sent by a process: the standard library's handler would take it for a fault that recurs.
        None => die_by(signal),
    }
}

/// Maps a page of zeros over a fault in a window, and flags the window. False if no window is there.
fn take_in(address: usize) -> bool {
    let found = TABLE
        .iter()
        .find_map(|slot| Some((slot, slot.position(address)?)));
    let Some((slot, position)) = found else {
        return false;
    };
    let page = page_size();
    let start = address - address % page;
    // SAFETY: the page is part of a window that is mapped now: a window is registered only while its map
    // lives, and the thread that faulted holds a reference into it, so it cannot be unmapped meanwhile.
    // Putting an anonymous page over it replaces nothing else; unmapping the window later takes it along.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::without_provenance_mut(start),
            page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    let _ = slot
        .fault
        .compare_exchange(0, position + 1, Ordering::AcqRel, Ordering::Relaxed);
    true
}

/// Does what would have happened without this module.
fn hand_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get();
    match previous.map(|previous| (previous.sa_sigaction, previous.sa_flags)) {
        Some((handler, flags)) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
            if flags & libc::SA_SIGINFO != 0 {
                // SAFETY: the handler was installed with SA_SIGINFO, so this is its type, and it gets the
                // arguments that the kernel gave.
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(handler) };
                handler(signal, info, context);
            } else {
                // SAFETY: the handler was installed without SA_SIGINFO, so this is its type.
                let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(handler) };
                handler(signal);
            }
        }
        _ => die_by(signal),
    }
}

/// Dies as if the signal had never been handled.
fn die_by(signal: i32) {
    // SAFETY: all zeros is a value of the struct, and it stands for the default action; `raise` has no
    // preconditions. The signal is blocked in its handler: the process dies on return.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        libc::raise(signal);
    }
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
