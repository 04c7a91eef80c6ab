//! Exit codes; docs/exit-codes.md explains them.

use std::process::ExitCode;

use sealift::error::ErrorKind;

/// The exit code for a kind of error.
pub const fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Content => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Io => 3,
        ErrorKind::Registry => 4,
        ErrorKind::Engine => 5,
        ErrorKind::NotShown => 6,
        ErrorKind::NotFound => 7,
        ErrorKind::Interrupted => 130,
    }
}

/// The status in a shell of a process that died by a signal.
pub fn after_signal(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or_default().saturating_add(128)
}

/// The status of a command that ended with its most severe failure, or with none.
pub fn status(failure: Option<ErrorKind>) -> ExitCode {
    failure.map_or(ExitCode::SUCCESS, |kind| code(kind).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_codes_and_their_order() {
        let mut kinds = [
            ErrorKind::Content,
            ErrorKind::Usage,
            ErrorKind::Io,
            ErrorKind::Registry,
            ErrorKind::Engine,
            ErrorKind::NotShown,
            ErrorKind::NotFound,
        ];
        kinds.sort_by(|one, other| other.cmp(one));
        let codes: Vec<String> = kinds.map(code).iter().map(ToString::to_string).collect();
        let document = include_str!("../../docs/exit-codes.md");
        let order = format!("in the order {}.", codes.join(", "));
        assert!(document.contains(&order), "{order}");
        for code in codes {
            assert!(document.contains(&format!("\n| {code} | ")), "{code}");
        }
    }
}
