//! The scheduler that fills an archive from a source.
