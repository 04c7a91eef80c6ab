//! Reading archives: what is good is read, what is bad is found, and where.

mod bad;
mod every_byte;
mod good;
mod images;
mod tape;
mod views;
