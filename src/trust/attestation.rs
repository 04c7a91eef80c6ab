//! The statements that attestations are: in a bundle, in an envelope, or as they are.

use super::bundle::{self, Bundle};
use super::flaw::Flaw;
use super::statement::{Envelope, IN_TOTO};
use crate::oci::json;

/// The media type of an envelope, as cosign has it in `sha256-....att`.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// The statement in a layer of this media type, as its bytes are, for [`super::Statement::parse`]. Who signed it is not
/// checked. `None` if layers of this type have none.
///
/// # Errors
///
/// If the layer is malformed, or a bundle of another version or without a statement.
pub fn statement_of(media_type: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, Flaw> {
    if bundle::is_bundle(media_type) {
        let statement = Bundle::parse(bytes)?.statement();
        return statement.map(Some).ok_or(Flaw::MessageSignature);
    }
    match media_type {
        ENVELOPE => {
            let envelope: Envelope = json::from_slice(bytes).map_err(Flaw::malformed)?;
            Ok(Some(envelope.decode().map_err(Flaw::malformed)?.payload))
        }
        IN_TOTO => Ok(Some(bytes.to_vec())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Statement;
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn the_statement_of_an_attestation_is_found_in_each_form() {
        let fixture = Fixture::open("attestations");
        let mut types = Vec::new();
        for layer in fixture.layers("amd64") {
            let media_type = layer.media_type.as_str();
            let Some(bytes) = statement_of(media_type, &fixture.blob(&layer.digest)).unwrap() else {
                continue;
            };
            let statement = Statement::parse(&bytes).unwrap();
            assert!(statement.is_about(&fixture.digest("amd64")));
            assert!(!statement.is_about(&fixture.digest("arm64")));
            types.push(statement.predicate_type);
        }
        types.sort();
        let expected = [
            "https://example.test/review/v1",
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document",
        ];
        // As bundles, and in the tag `.att`.
        let expected: Vec<&str> = expected.into_iter().flat_map(|one| [one, one]).collect();
        assert_eq!(types, expected);
        let message = Fixture::open("cosign-bundle-message");
        let layer = message.layers("top").remove(0);
        let found = statement_of(layer.media_type.as_str(), &message.blob(&layer.digest));
        assert_eq!(found, Err(Flaw::MessageSignature));
        let plain = br#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"a"}"#;
        assert_eq!(statement_of(IN_TOTO, plain), Ok(Some(plain.to_vec())));
        assert!(Statement::parse(plain).unwrap().is_about_nothing());
        assert!(statement_of(ENVELOPE, b"{}").is_err());
    }
}
