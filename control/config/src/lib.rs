//! Configuration: a directory of YAML read, checked and resolved into what one node shall be.
//!
//! 1. [`source`] reads `*.yaml` and cuts files into documents.
//! 2. [`tree`] parses a document into a tree that knows the line of every node; [`parse`] turns it into an object of
//!    `causeway-api`, or says which field of which line is wrong and what to write instead.
//! 3. [`check`] looks across objects: references, duplicates, ranges.
//! 4. [`model`] is the result: everything that concerns this node, references followed.
//!
//! All mistakes of a directory are reported together, and one mistake refuses the whole: a configuration is in force
//! entirely or not at all. Nothing here knows sockets, the kernel or the state of the network; that is why `causeway config
//! check` gives the same answers as the daemon.

#![forbid(unsafe_code)]

mod check;
mod community;
mod model;
mod parse;
mod source;
mod tree;

use std::path::Path;

pub use causeway_api::view::Diagnostic;
pub use community::Community;
pub use model::{Family, Generation, Instance, NodeSettings, Password, Peer, PeerAs, Template};

/// Limits on what is read.
pub mod limits {
    /// Files of a directory.
    pub const FILES: usize = 1000;
    /// Bytes of a file.
    pub const FILE_BYTES: u64 = 4 * 1024 * 1024;
    /// Documents of a directory.
    pub const DOCUMENTS: usize = 20_000;
    /// Mistakes reported; more are only counted.
    pub const DIAGNOSTICS: usize = 200;
    /// Mistakes looked for in one document beyond the first.
    pub const DIAGNOSTICS_PER_DOCUMENT: usize = 20;
    /// Peers of an instance.
    pub const PEERS: usize = 4096;
    /// Groups of dynamic neighbours of an instance.
    pub const DYNAMIC_GROUPS: usize = 256;
    /// Bytes of a TCP MD5 key (Linux `TCP_MD5SIG_MAXKEYLEN`).
    pub const MD5_KEY_BYTES: usize = 80;
    /// Bytes of a shutdown communication (RFC 9003 2).
    pub const SHUTDOWN_MESSAGE_BYTES: usize = 255;
    /// Other member ASes of a confederation.
    pub const CONFEDERATION_MEMBERS: usize = 256;
    /// Bits between the length of a range of pods' addresses and that of a node's block: the index has 2^16 entries.
    pub const POD_BLOCK_BITS: u8 = 16;
    /// Equal paths used at once.
    pub const MAXIMUM_PATHS: u16 = 64;
    /// Times an AS is prepended.
    pub const PREPEND: u8 = 16;
}

/// Reads and checks the directory for the node of this name.
///
/// # Errors
///
/// Every mistake found, in the order of files and lines.
pub fn load(dir: &Path, node_name: &str) -> Result<Generation, Vec<Diagnostic>> {
    let mut report = Report::default();
    let files = source::read(dir, &mut report);
    finish(&files, node_name, report)
}

/// The same for texts at hand: pairs of file name and content.
///
/// # Errors
///
/// Every mistake found, in the order of files and lines.
pub fn load_texts(texts: &[(&str, &str)], node_name: &str) -> Result<Generation, Vec<Diagnostic>> {
    let files: Vec<_> = texts
        .iter()
        .map(|(name, text)| source::File {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    finish(&files, node_name, Report::default())
}

fn finish(
    files: &[source::File],
    node_name: &str,
    mut report: Report,
) -> Result<Generation, Vec<Diagnostic>> {
    let objects = parse::parse(files, &mut report);
    let generation = check::check(&objects, node_name, &mut report);
    report.into_result(generation)
}

/// Mistakes found so far.
#[derive(Debug, Default)]
struct Report {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Report {
    fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < limits::DIAGNOSTICS {
            self.found.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    fn into_result(mut self, generation: Generation) -> Result<Generation, Vec<Diagnostic>> {
        if self.found.is_empty() {
            return Ok(generation);
        }
        self.found.sort();
        self.found.dedup();
        if self.more > 0 {
            self.found.push(Diagnostic {
                file: "…".to_owned(),
                line: 0,
                object: String::new(),
                field: String::new(),
                problem: format!("{} more mistakes are not shown", self.more),
                remedy: "correct the ones above first".to_owned(),
            });
        }
        Err(self.found)
    }
}

#[cfg(test)]
mod tests;
