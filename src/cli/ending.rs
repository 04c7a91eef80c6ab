//! Files that say how a run ended: metrics, reports and receipts. They are written however it ends, because those of an
//! earlier run would be wrong.

use std::path::{Path, PathBuf};

use sealift::archive::writer::{self, Inputs};
use sealift::interrupt::Interrupt;
use sealift::{Error, Result};
use serde_json::{Value, json};

use super::exit;
use super::output::{Outcome, Output};

/// Runs a command, and then writes a file with its exit code and the error that ended it. A signal writes the file too.
pub fn written(
    path: &Path,
    write: impl Fn(u8, Option<Value>) -> Result<()> + Clone + Send + 'static,
    output: &Output,
    interrupt: &Interrupt,
    run: impl FnOnce() -> Outcome,
) -> Outcome {
    let _guard = interrupt.on_stop({
        let (write, interrupt) = (write.clone(), interrupt.clone());
        move || {
            let signal = interrupt.signal().unwrap_or_default();
            if let Err(error) = write(exit::after_signal(signal), Some(interrupted(signal))) {
                interrupt.remark(error.to_string());
            }
        }
    });
    let ended = run();
    // From here on, a signal waits. One that came before has written the file.
    let _hold = interrupt.hold(format!("{} does not say how this run ended", path.display()))?;
    let written = match &ended {
        Ok(failure) => write(failure.map_or(0, exit::code), None),
        Err(failure) => write(failure.status(), failure.document()),
    };
    match (ended, written) {
        (ended, Ok(())) => ended,
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(failure), Err(error)) => {
            output.error(&error);
            Err(failure)
        }
    }
}

/// The error of a run that a signal ended.
fn interrupted(signal: i32) -> Value {
    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    json!({ "message": format!("interrupted by {name}"), "hint": null, "exit": exit::after_signal(signal), "code": null })
}

/// Refuses, before the work begins, a file that cannot be written, or that is part of what is read.
///
/// # Errors
///
/// [`Error::Usage`] or [`Error::Io`].
pub fn check(path: &Path, read: &[PathBuf]) -> Result<()> {
    writer::locate(path)?;
    Inputs::of_paths(read.iter().cloned()).refuse(&[path.to_path_buf()])
}

/// Refuses a file that is part of the folder or archive that a load writes.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn check_target(path: &Path, target: &Path) -> Result<()> {
    let existing = Inputs::of_paths([target.to_path_buf()]);
    let is_outside = existing.refuse(&[path.to_path_buf()]).is_ok();
    match is_outside && writer::place(path) != writer::place(target) {
        true => Ok(()),
        false => Err(Error::Usage {
            message: format!("{} belongs to the target {}", path.display(), target.display()),
            hint: Some("name another file".into()),
        }),
    }
}
