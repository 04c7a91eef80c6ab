//! Printing sizes.

use std::fmt;

/// Prints a number of bytes in decimal units, like Docker and vendors of disks.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 1u64;
        for name in ["B", "kB", "MB", "GB"] {
            if self.0 < unit.saturating_mul(1000) {
                return tenths(self.0, unit, name, f);
            }
            unit = unit.saturating_mul(1000);
        }
        tenths(self.0, unit, "TB", f)
    }
}

fn tenths(bytes: u64, unit: u64, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = bytes / unit;
    if unit == 1 || whole >= 100 {
        return f.pad(&format!("{whole} {name}"));
    }
    f.pad(&format!("{whole}.{} {name}", bytes % unit * 10 / unit))
}
