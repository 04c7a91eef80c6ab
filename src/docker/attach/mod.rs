//! Attaching digests to the classic store.
