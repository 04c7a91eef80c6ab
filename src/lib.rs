//! sealift.
