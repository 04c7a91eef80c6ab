//! The built command: what it prints, how it ends, what it leaves behind.
//!
//! ```text
//! files.rs      folders and archives as sources: subsets, merges, parts, pipes, other tools' archives
//! demo.rs       `make demo` without root and without Docker
//! documents.rs  links, tables and length of the documents
//! faults.rs     killed at every step, full disks, failing fsync, two saves at once
//! planted.rs    links and files of another user where root writes
//! openssh.rs    signatures, against the programs of OpenSSH
//! old_kernel.rs newer system calls that fail with ENOSYS
//! bundle.rs     `save --with-installer`, and the script that it writes
//! compressed.rs archives that were compressed as a whole, bombs among them
//! completions.rs  completions, in bash, zsh and fish
//! examples.rs   the examples of the help texts that need no engine
//! forecast.rs   dry runs of saves
//! compare.rs    inventories that are compared with what is there
//! from.rs       where save looks for images
//! help.rs       help pages and the manual
//! hostile.rs    text from outside is escaped before it is printed
//! images.rs     `images`, and files that name images
//! inputs.rs     archives as streams; files that change while they are read
//! keep_going.rs saves of which some images are missing or damaged, and new names
//! load_files.rs loads into layouts and archives
//! load_interrupted.rs  such loads that fail at any step, are killed, or do not fit
//! load_refused.rs  such loads that are refused
//! json.rs       the documents of all commands
//! metrics.rs    `verify --metrics` of runs that fail
//! memory.rs     many names of one image
//! nameless.rs   images without a name: what they are called, and loads that skip them
//! places.rs     where archives are written to, and standard streams
//! plugin.rs     `docker sealift`, without Docker
//! progress.rs  progress on terminals
//! receipt.rs    receipts of loads
//! report.rs     reports of a verification, on paper and screens too
//! parts.rs      parts that are missing, short, or of another archive
//! printed.rs    text, exit codes, lists of names, terminals
//! tables.rs     tables on terminals of several widths
//! uncompressed.rs   what commands print about uncompressed layers and substitutes
//! updates.rs    archives that leave out what a host has, by its inventory
//! serve.rs      `serve`, asked as clients ask
//! serve_access.rs  its passwords, TLS and configuration of clients
//! serve_page.rs    its page for people, in chromium too
//! serve_faults.rs  `serve` when something goes wrong meanwhile
//! signers.rs    signatures that archives must have
//! signing.rs    archives and receipts that are signed
//! sudo.rs       whose credentials are read under sudo
//! registry_faults.rs  registries that lie, break off and stall
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod compare;
mod completions;
mod compressed;
mod demo;
mod documents;
mod examples;
mod faults;
mod files;
mod forecast;
mod from;
mod help;
mod hostile;
mod images;
mod inputs;
mod json;
mod keep_going;
mod load_files;
mod load_interrupted;
mod load_refused;
mod memory;
mod metrics;
mod nameless;
mod old_kernel;
mod openssh;
mod parts;
mod places;
mod planted;
mod plugin;
mod printed;
mod progress;
mod receipt;
mod registry_faults;
mod report;
mod serve;
mod serve_access;
mod serve_faults;
mod serve_page;
mod signers;
mod signing;
mod sudo;
mod tables;
mod uncompressed;
mod updates;

/// Builds images of these repositories and contents into a layout: `docker.io/library/app:1`.
fn build_images(layout: &std::path::Path, images: &[(&str, &str)]) {
    for (name, content) in images {
        let image = support::Image::single(vec![support::Layer::new().file("name", *content)]);
        image.build(layout, &format!("docker.io/library/{name}:1"));
    }
}
