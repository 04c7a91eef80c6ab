//! The lines of progress at the end of a terminal, and the messages above them.
//!
//! The cursor stays at the end of the last line, so that a `^C` that the terminal shows does not move them.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sealift::oci::Digest;
use sealift::progress::Tally;

use super::meter::{Meter, blob_line};

/// Blobs smaller than this get no line of their own, in bytes.
const SMALL: u64 = 1 << 20;
/// Characters that stay free at the end of a line: for `^C`, and the last one, after which terminals wrap.
const FREE: usize = 3;
/// Rows and columns of a terminal that does not say how many it has.
const USUAL: [usize; 2] = [24, 80];

/// What is on standard error.
static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    phase: None,
    blobs: Vec::new(),
    drawn: Vec::new(),
    is_over: false,
});

/// A phase and its blobs, and how they are drawn.
pub struct Screen {
    phase: Option<Meter>,
    blobs: Vec<Blob>,
    /// Characters in each line that is on the terminal.
    drawn: Vec<usize>,
    /// Whether nothing is drawn any more.
    is_over: bool,
}

struct Blob {
    digest: Digest,
    size: u64,
    done: u64,
}

/// Prints a line on standard error, above the progress if there is any. A closed standard error does not end the work.
pub fn say(text: impl Display) {
    let mut screen = Screen::lock();
    let mut bytes = screen.erased();
    let _ = writeln!(bytes, "{text}");
    bytes += &screen.drawing();
    write(&bytes);
}

// In one piece: standard error has no buffer.
fn write(text: &str) {
    if !text.is_empty() {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Rows and columns of the terminal.
fn size() -> [usize; 2] {
    let Ok(size) = rustix::termios::tcgetwinsize(std::io::stderr()) else {
        return USUAL;
    };
    let [rows, columns] = USUAL;
    let or = |count: u16, usual| if count == 0 { usual } else { count.into() };
    [or(size.ws_row, rows), or(size.ws_col, columns)]
}

impl Screen {
    /// The screen of this process.
    pub fn lock() -> MutexGuard<'static, Screen> {
        SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A phase begins.
    pub fn begin(&mut self, phase: Meter) {
        if self.is_over {
            return;
        }
        self.phase = Some(phase);
        self.blobs.clear();
        // At once, even if the work is short.
        self.draw();
    }

    /// Counts bytes of the phase.
    pub fn count(&mut self, count: impl FnOnce(&mut Tally)) {
        if let Some(phase) = &mut self.phase {
            phase.count(Instant::now(), count);
        }
    }

    /// A blob gets a line, or begins anew in the one that it has.
    pub fn blob(&mut self, digest: &Digest, size: u64, done: u64) {
        if let Some(blob) = self.find(digest) {
            (blob.size, blob.done) = (size, done);
        } else if size >= SMALL {
            let digest = *digest;
            self.blobs.push(Blob { digest, size, done });
            self.draw();
        }
    }

    /// More of a blob is complete.
    pub fn advance(&mut self, digest: &Digest, bytes: u64) {
        if let Some(blob) = self.find(digest) {
            blob.done = blob.done.saturating_add(bytes).min(blob.size);
        }
    }

    /// A blob needs no line any more.
    pub fn remove(&mut self, digest: &Digest) {
        let before = self.blobs.len();
        self.blobs.retain(|blob| blob.digest != *digest);
        if self.blobs.len() < before {
            self.draw();
        }
    }

    fn find(&mut self, digest: &Digest) -> Option<&mut Blob> {
        self.blobs.iter_mut().find(|blob| blob.digest == *digest)
    }

    /// Draws the progress as it is now.
    pub fn draw(&mut self) {
        let text = self.erased() + &self.drawing();
        write(&text);
    }

    /// Removes the progress.
    pub fn clear(&mut self) {
        self.phase = None;
        self.blobs.clear();
        write(&self.erased());
    }

    /// Makes room for a line of the result, until the progress is drawn again.
    pub fn make_room(&mut self) {
        write(&self.erased());
    }

    /// Removes the progress for good.
    pub fn end(&mut self) {
        self.is_over = true;
        self.clear();
    }

    /// What moves the cursor to where the progress began, and clears the terminal from there.
    fn erased(&mut self) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        let [_, columns] = size();
        // A terminal that became narrower has wrapped the lines.
        let rows = self.drawn.drain(..).map(|length| length.div_ceil(columns).max(1));
        match rows.sum::<usize>() {
            0 | 1 => "\r\x1b[J".into(),
            rows => format!("\r\x1b[{}A\x1b[J", rows - 1),
        }
    }

    /// What draws the progress where the cursor is.
    fn drawing(&mut self) -> String {
        let Some(phase) = &self.phase else {
            return String::new();
        };
        let [rows, columns] = size();
        let width = columns.saturating_sub(FREE);
        let shown = self.blobs.iter().take(rows.saturating_sub(2));
        let mut lines: Vec<String> = shown
            .map(|blob| blob_line(&blob.digest.short(), blob.done, blob.size, width))
            .collect();
        lines.push(phase.line(Instant::now(), width));
        self.drawn = lines.iter().map(|line| line.chars().count()).collect();
        lines.join("\n")
    }
}
