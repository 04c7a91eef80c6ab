//! Private keys in files: OpenSSH's PROTOCOL.key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::{rsa, signature as signing};

use super::public_key::{Curve, PublicKey};
use super::wire::{Malformed, Reader, Write as _};

/// How the text of a private key begins.
pub(super) const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// What the cipher of a key without a passphrase is called.
const NO_CIPHER: &str = "none";

/// What a file has.
pub(super) enum Content {
    /// A key that signs.
    Key(PrivateKey),
    /// A key that does not sign by itself: its public half, as SSH writes it, and why.
    Locked { public: Vec<u8>, why: String },
}

/// A private key that is not encrypted.
pub(super) struct PrivateKey {
    pub public: PublicKey,
    pair: Pair,
}

enum Pair {
    Ed25519(signing::Ed25519KeyPair),
    Ecdsa(Curve, Box<signing::EcdsaKeyPair>),
    Rsa(Box<signing::RsaKeyPair>),
}

impl PrivateKey {
    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Content, Malformed> {
        let inside = text
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END));
        let inside = inside.ok_or_else(|| Malformed::new(format!("it does not end with {END}")))?;
        let letters: String = inside
            .chars()
            .filter(|letter| !letter.is_ascii_whitespace())
            .collect();
        let blob = STANDARD.decode(letters);
        let blob = blob.map_err(|_| Malformed::new("what is in it is not base64"))?;
        let mut reader = Reader(&blob);
        reader.expect(MAGIC)?;
        let (cipher, _function, _options) = (reader.text()?, reader.text()?, reader.string()?);
        if reader.number()? != 1 {
            return Err(Malformed::new("it has not exactly one key"));
        }
        let public = reader.string()?;
        let private = reader.string()?;
        reader.end()?;
        let locked = |why: String| {
            Ok(Content::Locked {
                public: public.to_vec(),
                why,
            })
        };
        if cipher != NO_CIPHER {
            return locked("it is encrypted".into());
        }
        let known = match PublicKey::parse(public) {
            Ok(known) => known,
            Err(error) => return locked(error.to_string()),
        };
        let mut reader = Reader(private);
        if reader.number()? != reader.number()? {
            return Err(Malformed::new("its check numbers differ"));
        }
        let algorithm = reader.text()?;
        if algorithm != known.algorithm() {
            return Err(Malformed::new("its halves are of different types"));
        }
        let pair = match algorithm {
            "ssh-ed25519" => ed25519(&mut reader)?,
            "ecdsa-sha2-nistp256" => ecdsa(Curve::P256, &mut reader)?,
            "ecdsa-sha2-nistp384" => ecdsa(Curve::P384, &mut reader)?,
            "ssh-rsa" => match rsa(&mut reader)? {
                Some(pair) => pair,
                None => return locked("an RSA key of this form or size is not supported".into()),
            },
            _ => return locked("it is of a security key".into()),
        };
        let _comment = reader.string()?;
        let is_padded = (1..=u8::MAX)
            .zip(reader.0)
            .all(|(expected, byte)| expected == *byte);
        if !is_padded || reader.0.len() > 255 {
            return Err(Malformed::new("its padding is wrong"));
        }
        Ok(Content::Key(PrivateKey { public: known, pair }))
    }

    /// Signs bytes. The signature is as SSH writes it.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let failed = |_| Malformed::new("the key cannot sign");
        let random = SystemRandom::new();
        let mut signature = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                signature.put("ssh-ed25519");
                signature.put(pair.sign(bytes));
            }
            Pair::Ecdsa(curve, pair) => {
                let fixed = pair.sign(&random, bytes).map_err(failed)?;
                let (r, s) = fixed.as_ref().split_at_checked(curve.size()).unwrap_or_default();
                let mut numbers = Vec::new();
                numbers.put_integer(r);
                numbers.put_integer(s);
                signature.put(self.public.algorithm());
                signature.put(numbers);
            }
            Pair::Rsa(pair) => {
                let mut bytes_of = vec![0; pair.public().modulus_len()];
                pair.sign(&signing::RSA_PKCS1_SHA512, &random, bytes, &mut bytes_of)
                    .map_err(failed)?;
                signature.put("rsa-sha2-512");
                signature.put(bytes_of);
            }
        }
        Ok(signature)
    }
}

fn rejected(error: ring::error::KeyRejected) -> Malformed {
    Malformed::new(format!("its numbers are not those of a key ({error})"))
}

fn ed25519(reader: &mut Reader<'_>) -> Result<Pair, Malformed> {
    let (public, private) = (reader.string()?, reader.string()?);
    // The seed, and the public key again.
    let seed = match private.split_at_checked(32) {
        Some((seed, again)) if again == public => seed,
        _ => return Err(Malformed::new("its halves differ")),
    };
    let pair = signing::Ed25519KeyPair::from_seed_and_public_key(seed, public);
    pair.map(Pair::Ed25519).map_err(rejected)
}

fn ecdsa(curve: Curve, reader: &mut Reader<'_>) -> Result<Pair, Malformed> {
    if reader.text()? != curve.name() {
        return Err(Malformed::new("the curve is not that of the key's type"));
    }
    let (point, scalar) = (reader.string()?, reader.integer()?);
    let algorithm = match curve {
        Curve::P256 => &signing::ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &signing::ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    let scalar = super::public_key::fitted(scalar, curve.size())?;
    let random = SystemRandom::new();
    let pair = signing::EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, point, &random);
    pair.map(|pair| Pair::Ecdsa(curve, Box::new(pair)))
        .map_err(rejected)
}

/// `None` for a key that is whole, but not one that this signs with.
fn rsa(reader: &mut Reader<'_>) -> Result<Option<Pair>, Malformed> {
    let (n, e, d) = (reader.integer()?, reader.integer()?, reader.integer()?);
    let (inverse, p, q) = (reader.integer()?, reader.integer()?, reader.integer()?);
    let components = rsa::KeyPairComponents {
        public_key: rsa::PublicKeyComponents { n, e },
        d,
        p,
        q,
        // The file has not the exponents of the two primes.
        dP: &remainder(d, &minus_one(p)),
        dQ: &remainder(d, &minus_one(q)),
        qInv: inverse,
    };
    // Such as one of more than 4,096 bits.
    Ok(signing::RsaKeyPair::from_components(&components)
        .ok()
        .map(|pair| Pair::Rsa(Box::new(pair))))
}

/// A prime number, which is odd, minus one.
fn minus_one(prime: &[u8]) -> Vec<u8> {
    let mut number = prime.to_vec();
    if let Some(last) = number.last_mut() {
        *last &= 0xfe;
    }
    number
}

/// The remainder of a division, bit by bit: it is done once for each key.
fn remainder(number: &[u8], divisor: &[u8]) -> Vec<u8> {
    let divisor = super::wire::without_zeros(divisor);
    // One byte more than the divisor, for the bit that is shifted out.
    let mut rest = vec![0_u8; divisor.len() + 1];
    let mut wide = vec![0];
    wide.extend_from_slice(divisor);
    if divisor.is_empty() {
        return rest;
    }
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for place in rest.iter_mut().rev() {
                let next = *place >> 7;
                *place = *place << 1 | carry;
                carry = next;
            }
            if rest >= wide {
                let mut borrow = false;
                for (place, less) in rest.iter_mut().zip(&wide).rev() {
                    let (first, one) = place.overflowing_sub(*less);
                    let (second, two) = first.overflowing_sub(u8::from(borrow));
                    *place = second;
                    borrow = one || two;
                }
            }
        }
    }
    super::wire::without_zeros(&rest).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_right() {
        for (number, divisor) in [
            (0_u64, 7_u64),
            (6, 7),
            (7, 7),
            (0xffff_ffff_ffff_fffe, 0xffff),
            (1 << 40, 3),
            (255, 256),
        ] {
            let expected = (number % divisor).to_be_bytes();
            let found = remainder(&number.to_be_bytes(), &divisor.to_be_bytes());
            assert_eq!(
                found,
                super::super::wire::without_zeros(&expected),
                "{number} {divisor}"
            );
        }
        assert_eq!(remainder(&[1], &[]), [0]);
    }
}
