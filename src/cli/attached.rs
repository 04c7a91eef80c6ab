//! `sealift list --sbom` and `--attestation`: documents about an image, as they are stored.

use std::io::IsTerminal as _;

use clap::Args;
use sealift::archive::{Attached, Graphs, Layout};
use sealift::escape::Escaped;
use sealift::image::names;
use sealift::image::{NamedImage, Selector};

use sealift::interrupt::Interrupt;
use sealift::oci::{Digest, Platform};
use sealift::trust::{AttachedDocument, MAX_DOCUMENT};
use sealift::{Error, Result};

use super::output::{Failure, Output};

/// Most documents that a message lists.
const SHOWN: usize = 20;

/// Which document to print.
#[derive(Args)]
pub struct DocumentArgs {
    /// Print the SBOM of an image, as it is stored
    ///
    /// SPDX, CycloneDX or Syft: from an attestation, or attached as it is. Who made it is not checked.
    #[arg(long, conflicts_with = "attestation")]
    sbom: bool,
    /// Print what an attestation of this type states about an image, as it is stored
    ///
    /// TYPE is `slsaprovenance`, `spdx`, `cyclonedx`, `vuln`, `openvex` or `link`, or the URI of a predicate type. Who signed
    /// it is not checked.
    #[arg(long, value_name = "TYPE")]
    attestation: Option<String>,
    /// The image whose document to print, by name, repository or digest
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// The platform whose document to print
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// The attestation or SBOM to print, by the digest of its manifest
    #[arg(long, value_name = "DIGEST")]
    referrer: Option<Digest>,
}

/// A document that was found.
struct Found {
    /// The image's name.
    image: String,
    /// What of the image it is about.
    part: String,
    kind: String,
    /// Digest of the manifest that it is in.
    referrer: Digest,
    /// SHA-256 of its bytes.
    content: Digest,
}

impl DocumentArgs {
    /// Whether a document is to be printed.
    pub fn is_asked(&self) -> bool {
        self.sbom || self.attestation.is_some()
    }

    /// Refuses options that do not go together.
    pub fn check(&self, output: &Output, are_several: bool) -> Result<()> {
        let usage = |message: &str, hint: Option<&str>| {
            Err(Error::Usage {
                message: message.into(),
                hint: hint.map(|hint| hint.to_string().into()),
            })
        };
        let given = [
            ("--image", self.image.is_some()),
            ("--platform", self.platform.is_some()),
            ("--referrer", self.referrer.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if !self.is_asked() => {
                let hint = "without them, list prints all images";
                usage(
                    &format!("{option} chooses what --sbom or --attestation prints"),
                    Some(hint),
                )
            }
            _ if !self.is_asked() => Ok(()),
            _ if output.is_json() => usage("a document is printed as it is stored, without --json", None),
            _ if are_several => usage("a document is printed from one archive", None),
            _ => Ok(()),
        }
    }

    /// Prints the document.
    pub fn print(&self, layout: &dyn Layout, output: &Output, interrupt: &Interrupt) -> Result<(), Failure> {
        let bytes = self.find(layout, interrupt)?;
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return output.bytes(&bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        text.lines().try_for_each(|line| output.line(line))
    }

    /// The only document that is meant.
    fn find(&self, layout: &dyn Layout, interrupt: &Interrupt) -> Result<Vec<u8>> {
        let images = self.images(layout)?;
        let mut meant: Vec<Found> = Vec::new();
        let mut others: Vec<Found> = Vec::new();
        let mut first: Option<Vec<u8>> = None;
        for named in &images {
            for attached in Attached::all(named) {
                let is_chosen = self.is_chosen(&attached);
                attached.each_document(layout, MAX_DOCUMENT, interrupt, &mut |document| {
                    let found = Found::new(named, &attached, &document);
                    if !is_chosen || !self.is_meant(&document) {
                        others.push(found);
                        return;
                    }
                    first.get_or_insert(document.bytes);
                    meant.push(found);
                })?;
            }
        }
        let is_one = meant.windows(2).all(|pair| match pair {
            [one, other] => one.content == other.content,
            _ => true,
        });
        match first {
            Some(bytes) if is_one => Ok(bytes),
            Some(_) => Err(Error::Usage {
                message: format!("there are several: {}", told(&meant)),
                hint: Some("--image, --platform and --referrer choose one of them".into()),
            }),
            None => Err(Error::NotFound {
                what: self.wanted(),
                place: match self.image.as_deref() {
                    Some(image) => format!("{} in {}", Escaped(image), layout.label()),
                    None => layout.label().into(),
                },
                hint: Some(match others.is_empty() {
                    true => "it has no SBOMs and no attestations".into(),
                    false => format!("it has {}", told(&others)).into(),
                }),
            }),
        }
    }

    /// The images that are meant, each once.
    fn images(&self, layout: &dyn Layout) -> Result<Vec<NamedImage>> {
        let selector = self.image.as_deref().map(Selector::parse).transpose()?;
        let mut graphs = Graphs::new(layout);
        let mut images: Vec<NamedImage> = Vec::new();
        let mut labels = Vec::new();
        for entry in layout.entries() {
            let named = graphs.named(entry)?;
            labels.push(named.identity().label());
            let is_meant = selector
                .as_ref()
                .is_none_or(|selector| selector.is(&named.identity()));
            let root = named.graph.root.digest;
            if is_meant && images.iter().all(|known| known.graph.root.digest != root) {
                images.push(named);
            }
        }
        match (images.is_empty(), self.image.as_deref()) {
            (true, Some(image)) => Err(Error::NotFound {
                what: Escaped(image).to_string(),
                place: layout.label().into(),
                hint: Some(names::instead_of(image, labels).into()),
            }),
            _ => Ok(images),
        }
    }

    fn is_chosen(&self, attached: &Attached<'_>) -> bool {
        let is_of = |wanted: &Platform| attached.platform.is_some_and(|found| wanted.matches(found));
        self.platform.as_ref().is_none_or(is_of)
            && self.referrer.is_none_or(|referrer| referrer == attached.digest)
    }

    fn is_meant(&self, document: &AttachedDocument) -> bool {
        match &self.attestation {
            Some(wanted) => document.is_attestation(wanted),
            None => document.is_sbom(),
        }
    }

    /// What is asked for, in words.
    fn wanted(&self) -> String {
        let what = match &self.attestation {
            Some(wanted) => format!("attestation of the type {}", Escaped(wanted)),
            None => "SBOM".into(),
        };
        match (&self.platform, &self.referrer) {
            (Some(platform), _) => format!("{what} of {platform}"),
            (None, Some(referrer)) => format!("{what} in {referrer}"),
            (None, None) => what,
        }
    }
}

impl Found {
    fn new(named: &NamedImage, attached: &Attached<'_>, document: &AttachedDocument) -> Found {
        Found {
            image: named.identity().label(),
            part: match attached.platform {
                Some(platform) => platform.to_string(),
                None if attached.subject == named.graph.root.digest => "index".into(),
                None => attached.subject.to_string(),
            },
            kind: document.kind().into(),
            referrer: attached.digest,
            content: Digest::sha256(&document.bytes),
        }
    }
}

/// Documents in a message.
fn told(found: &[Found]) -> String {
    let lines = found.iter().take(SHOWN).map(|one| {
        let Found {
            image,
            part,
            kind,
            referrer,
            ..
        } = one;
        format!("{} of {image} ({part}) in {referrer}", Escaped(kind))
    });
    let mut lines: Vec<String> = lines.collect();
    if let more @ 1.. = found.len().saturating_sub(SHOWN) {
        lines.push(format!("{more} more"));
    }
    lines.join("; ")
}
