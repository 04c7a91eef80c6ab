//! Chains of layers, as engines identify them: OCI image specification, "Layer ChainID".

use super::{Digest, Hasher};

/// The chain id of each prefix of a list of layers, base first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => *diff_id,
            Some(parent) => {
                let mut hasher = Hasher::sha256();
                hasher.update(format!("{parent} {diff_id}").as_bytes());
                hasher.finish()
            }
        };
        chains.push(chain);
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_as_engines_name_them() {
        // The label that containerd's store of Docker 28 puts on the config of an image with these layers.
        let layers = [
            "sha256:f6f19fe88ae188055d9822fd65343474de176ae4082ac480937e66d0f8d5f09d",
            "sha256:6598fb21506deedbb2d8f85be794940a005ebb5e2c88878b4cc4c5b8f65f1527",
            "sha256:05628862c36c5599888db5f9769d7c2b21c8a97dab67e2f44cda60e8e0e64dc5",
        ];
        let layers: Vec<Digest> = layers.iter().map(|text| text.parse().unwrap()).collect();
        let chains = chain_ids(&layers);
        assert_eq!(chains[0], layers[0]);
        let snapshot = "sha256:b08fe50de760f7612a96f81733c70f6eedcd7af48afa24f9563c3da9018ff41c";
        assert_eq!(chains[2].to_string(), snapshot);
        assert_eq!(chain_ids(&[]), []);
    }
}
