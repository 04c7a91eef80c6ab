//! What an engine is shown.
