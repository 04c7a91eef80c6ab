//! What is signed by whom, and what each tool says about it wherever it is.

use super::signed::{Repository, Signer};

/// A tool that checks, and what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// `cosign verify` by alice's key: the bundles, and where there are none, the old format.
    Cosign,
    /// The same of the old format only.
    CosignOld,
    /// `cosign verify-attestation` by alice's key, of this type.
    Attestation(&'static str),
    /// The same of the old format only.
    AttestationOld(&'static str),
    /// `notation verify` by the trust policy.
    Notation,
    /// `skopeo copy` by a policy.json that demands alice's key and the name of the image.
    Skopeo,
}

/// What a tool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It ends with exit code 0.
    Passes,
    /// It ends with another, and this is in what it prints.
    Refuses(&'static str),
}

use Says::{Passes, Refuses};
use Verifier::{Attestation, AttestationOld, Cosign, CosignOld, Notation, Skopeo};

/// A repository with one image.
pub struct Case {
    /// Of the repository, below `acme`.
    pub name: &'static str,
    /// The case that has the same image; its own name otherwise.
    pub image: &'static str,
    /// Signs it.
    pub sign: fn(&Repository<'_>),
    /// Whether that takes what the tools wrote in other cases.
    pub derived: bool,
    /// What the tools say.
    pub says: &'static [(Verifier, Says)],
}

const fn case(name: &'static str, sign: fn(&Repository<'_>), says: &'static [(Verifier, Says)]) -> Case {
    Case {
        name,
        image: name,
        sign,
        derived: false,
        says,
    }
}

const fn derived(
    name: &'static str,
    image: &'static str,
    sign: fn(&Repository<'_>),
    says: &'static [(Verifier, Says)],
) -> Case {
    Case {
        name,
        image,
        sign,
        derived: true,
        says,
    }
}

const NO_SIGNATURE: Says = Refuses("no signatures found");
const NOT_NOTATION: (Verifier, Says) = (Notation, Refuses("no signature is associated with"));
const NOT_CONTAINERS: (Verifier, Says) = (
    Skopeo,
    Refuses("A signature was required, but no signature exists"),
);
const WRONG_BUNDLE: Says = Refuses("accepted signatures do not match threshold, Found: 0");
const WRONG_OLD: Says = Refuses("invalid signature when validating ASN.1 encoded signature");

/// All cases.
pub const CASES: &[Case] = &[
    case(
        "cosign-old",
        |image| {
            image.cosign_old(Signer::Alice, &image.index(), &["--recursive", "-a", "env=prod"]);
        },
        &[
            (Cosign, Passes),
            (CosignOld, Passes),
            (Skopeo, Passes),
            NOT_NOTATION,
        ],
    ),
    case(
        "cosign-bundle",
        |image| {
            image.cosign(Signer::Alice, &image.index(), &["--recursive"]);
        },
        &[
            (Cosign, Passes),
            (CosignOld, NO_SIGNATURE),
            NOT_CONTAINERS,
            NOT_NOTATION,
        ],
    ),
    case(
        "skopeo",
        |image| image.skopeo(),
        &[
            (Cosign, Passes),
            (CosignOld, Passes),
            (Skopeo, Passes),
            NOT_NOTATION,
        ],
    ),
    case(
        "attested",
        |image| {
            let index = image.index();
            for kind in ["slsaprovenance1", "spdxjson", "cyclonedx"] {
                image.attest(kind, &index, &[]);
            }
            image.attest("spdxjson", &index, &["--new-bundle-format=false"]);
            image.attach_sbom(&index);
            image.oras_attach(&index);
        },
        &[
            // Of cosign 3.1.1: it takes any attestation for a signature.
            (Cosign, Passes),
            (CosignOld, NO_SIGNATURE),
            (Attestation("slsaprovenance1"), Passes),
            (Attestation("spdxjson"), Passes),
            (Attestation("cyclonedx"), Passes),
            (
                Attestation("https://example.test/review/v1"),
                Refuses("none of the attestations matched the predicate type"),
            ),
            (AttestationOld("spdxjson"), Passes),
            (
                AttestationOld("slsaprovenance1"),
                Refuses("none of the attestations matched the predicate type"),
            ),
            NOT_CONTAINERS,
            NOT_NOTATION,
        ],
    ),
    case(
        "notation",
        |image| {
            image.notation("release", &["--signature-format", "jws"]);
            image.notation("release", &["--signature-format", "cose"]);
        },
        &[
            (Cosign, NO_SIGNATURE),
            (CosignOld, NO_SIGNATURE),
            (Notation, Passes),
            NOT_CONTAINERS,
        ],
    ),
    case(
        "all",
        |image| image.everything(),
        &[
            (Cosign, Passes),
            (CosignOld, Passes),
            (Attestation("slsaprovenance1"), Passes),
            (AttestationOld("spdxjson"), Passes),
            (Notation, Passes),
            (Skopeo, Passes),
        ],
    ),
    case(
        "two-signers",
        |image| {
            for signer in [Signer::Mallory, Signer::Alice] {
                image.cosign(signer, &image.index(), &[]);
                image.cosign_old(signer, &image.index(), &["--recursive"]);
            }
        },
        &[(Cosign, Passes), (CosignOld, Passes), (Skopeo, Passes)],
    ),
    case(
        "index-only",
        |image| image.cosign_old(Signer::Alice, &image.index(), &[]),
        &[(Cosign, Passes), (CosignOld, Passes), NOT_CONTAINERS],
    ),
    case(
        "platforms-only",
        |image| {
            for platform in image.platforms() {
                image.cosign_old(Signer::Alice, &platform, &[]);
            }
        },
        &[
            (Cosign, NO_SIGNATURE),
            (CosignOld, NO_SIGNATURE),
            (Skopeo, Passes),
        ],
    ),
    case(
        "unsigned",
        |_| (),
        &[
            (Cosign, NO_SIGNATURE),
            (CosignOld, NO_SIGNATURE),
            (Attestation("spdxjson"), Refuses("no matching attestations")),
            NOT_CONTAINERS,
            NOT_NOTATION,
        ],
    ),
    case(
        "other-key",
        |image| {
            image.cosign(Signer::Mallory, &image.index(), &["--recursive"]);
            image.cosign_old(Signer::Mallory, &image.index(), &["--recursive"]);
        },
        &[
            (Cosign, WRONG_BUNDLE),
            (CosignOld, WRONG_OLD),
            (Skopeo, Refuses("cryptographic signature verification failed")),
        ],
    ),
    case(
        "other-name",
        |image| {
            let reference = image.index();
            image.sign_as("registry.example.test/acme/app:1.0", &reference);
        },
        &[
            // It looks at no name.
            (Cosign, Passes),
            (CosignOld, Passes),
            (Skopeo, Refuses("Signature for identity")),
        ],
    ),
    case(
        "retagged",
        |image| image.retagged(),
        &[
            (Cosign, NO_SIGNATURE),
            (CosignOld, NO_SIGNATURE),
            NOT_CONTAINERS,
            NOT_NOTATION,
        ],
    ),
    case(
        "notation-other-name",
        |image| image.notation("intern", &[]),
        &[(
            Notation,
            Refuses("signature verification failed for all the signatures"),
        )],
    ),
    case(
        "notation-other-root",
        |image| image.notation("stranger", &[]),
        &[(
            Notation,
            Refuses("signature verification failed for all the signatures"),
        )],
    ),
    case(
        "notation-expired",
        |image| image.notation("release", &["--expiry", "1s"]),
        &[(
            Notation,
            Refuses("signature verification failed for all the signatures"),
        )],
    ),
    derived(
        "tampered-old",
        "cosign-old",
        |image| image.tampered_old("cosign-old"),
        &[(Cosign, WRONG_OLD), (CosignOld, WRONG_OLD)],
    ),
    derived(
        "tampered-bundle",
        "cosign-bundle",
        |image| image.tampered_bundle("cosign-bundle"),
        &[(Cosign, WRONG_BUNDLE)],
    ),
    derived(
        "moved-old",
        "moved-old",
        |image| image.moved_old("cosign-old"),
        &[
            (Cosign, Refuses("invalid or missing digest in claim")),
            (CosignOld, Refuses("invalid or missing digest in claim")),
            (Skopeo, Refuses("does not match")),
        ],
    ),
    derived(
        "moved-bundle",
        "moved-bundle",
        |image| image.moved_referrers("cosign-bundle"),
        &[(
            Cosign,
            Refuses("provided artifact digest does not match any digest in statement"),
        )],
    ),
    derived(
        "notation-moved",
        "notation-moved",
        |image| image.moved_referrers("notation"),
        &[(
            Notation,
            Refuses("signature verification failed for all the signatures"),
        )],
    ),
];
