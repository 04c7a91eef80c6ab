//! The kinds of errors.

/// On which side the cause of an error is. A greater kind is more severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// A digest is not shown or not proven, or an image lacks the form that the target needs.
    NotShown,
    /// The request is invalid.
    Usage,
    /// An image, tag or platform does not exist.
    NotFound,
    /// A registry, or the network on the way to it, failed.
    Registry,
    /// A local file could not be read or written.
    Io,
    /// A container engine refused or stopped responding.
    Engine,
    /// Content is wrong or hostile, or exceeds a limit.
    Content,
    /// A signal asked to stop.
    Interrupted,
}
