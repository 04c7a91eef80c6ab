//! Images of which a layout has layers only uncompressed, as sealift seals what cannot be recompressed.

use std::fs;
use std::io::Read;

use serde_json::Value;

use super::image::{Built, store};

impl Built {
    /// Puts the uncompressed layer in the place of the stored one, for the layers at these places of every
    /// platform. The documents stay as they are.
    pub fn uncompress(&self, places: &[usize]) {
        let mut digests = Vec::new();
        for layer in self
            .manifests
            .iter()
            .flat_map(|manifest| places.iter().map(|at| &manifest.layers[*at]))
        {
            if digests.contains(&layer.digest) {
                continue;
            }
            let path = self.blob(&layer.digest);
            let stored = fs::read(&path).unwrap();
            let mut tar = Vec::new();
            match layer.media_type.rsplit_once(['+', '.']).unwrap().1 {
                "gzip" => drop(
                    flate2::read::GzDecoder::new(&stored[..])
                        .read_to_end(&mut tar)
                        .unwrap(),
                ),
                "zstd" => tar = zstd::decode_all(&stored[..]).unwrap(),
                other => panic!("{other} is not compressed"),
            }
            assert_eq!(store(&self.layout.join("blobs/sha256"), &tar), layer.diff_id);
            fs::remove_file(path).unwrap();
            digests.push(layer.digest.clone());
        }
        self.annotate("dev.sealift.uncompressed", &digests.join(","));
    }

    /// Annotates the image's entry in `index.json`.
    pub fn annotate(&self, key: &str, value: &str) {
        let path = self.layout.join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let entries = index["manifests"].as_array_mut().unwrap();
        let tag =
            |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"] == self.tag.as_str();
        let entry = entries.iter_mut().find(|entry| tag(entry)).unwrap();
        entry["annotations"][key] = value.into();
        fs::write(path, index.to_string()).unwrap();
    }
}
