use super::*;
use crate::error::{Error, ErrorKind, Hint, Remedy};
use crate::image::testing::Store;
use crate::oci::testing::{self, TestBlob, TestImage};

impl Store {
    /// An image whose config has this platform and whose descriptor has none.
    fn image(&mut self, platform: &str) -> Descriptor {
        self.add_image(&TestImage::new().platform(&platform.parse().unwrap()))
    }

    fn index(&mut self, manifests: &[Descriptor]) -> Descriptor {
        self.add(testing::index(manifests))
    }

    /// The platforms chosen from a root, by the configs, and the number of entries left.
    fn walk(&self, root: &Descriptor, wanted: &str) -> Result<(Vec<String>, usize)> {
        let selection = wanted.parse().unwrap();
        let graph = Graph::walk(root, &selection, &mut |descriptor| {
            Ok(self.0.get(&descriptor.digest).cloned())
        })?;
        let platforms = graph
            .runnable()
            .filter_map(Image::platform)
            .map(ToString::to_string);
        Ok((platforms.collect(), graph.absent.len()))
    }
}

#[test]
fn the_configs_say_the_platforms_that_an_index_leaves_out() {
    let mut store = Store::default();
    let images = ["linux/amd64", "linux/arm64", "linux/arm/v7"].map(|platform| store.image(platform));
    let index = store.index(&images);
    let nested = store.index(std::slice::from_ref(&index));
    for root in [&index, &nested] {
        let one = |platform: &str| (vec![platform.to_string()], 2);
        assert_eq!(store.walk(root, "linux/amd64").unwrap(), one("linux/amd64"));
        assert_eq!(store.walk(root, "linux/arm64/v8").unwrap(), one("linux/arm64"));
        assert_eq!(store.walk(root, "all").unwrap().0.len(), 3);
        let error = store.walk(root, "linux/s390x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let hint = Hint::from("it has linux/amd64, linux/arm/v7, linux/arm64");
        assert_eq!(error.hint(), Some(hint.and(Remedy::ChoosePlatform)));
    }
}

#[test]
fn artifacts_need_no_platform() {
    let mut store = Store::default();
    let config = TestBlob::new("application/vnd.example.config", "{}");
    let artifact = store.add_image(&TestImage::new().with_config(config));
    let index = store.index(&[artifact]);
    assert_eq!(store.walk(&index, "linux/amd64").unwrap(), (vec![], 0));
    let empty = store.index(&[]);
    let error = store.walk(&empty, "linux/amd64").unwrap_err();
    assert_eq!(error.hint(), Some("it holds no image for any platform".into()));
}

#[test]
fn one_entry_that_agrees_is_enough() {
    let mut store = Store::default();
    let image = store.image("linux/amd64");
    let said = |platform: Option<&str>| Descriptor {
        platform: platform.map(|text| text.parse().unwrap()),
        ..image.clone()
    };
    for entries in [
        [said(Some("linux/arm64")), said(Some("linux/amd64"))],
        [said(Some("linux/amd64")), said(Some("linux/arm64"))],
        [said(Some("linux/arm64")), said(None)],
        [said(None), said(Some("linux/arm64"))],
    ] {
        let index = store.index(&entries);
        for wanted in ["linux/arm64", "linux/amd64", "all"] {
            assert_eq!(
                store.walk(&index, wanted).unwrap().0,
                ["linux/amd64"],
                "{entries:?}"
            );
        }
    }
    let index = store.index(&[said(Some("linux/arm64")), said(Some("linux/s390x"))]);
    assert_eq!(
        store.walk(&index, "linux/s390x").unwrap_err().kind(),
        ErrorKind::Content
    );
}

#[test]
fn an_index_and_a_config_agree() {
    let mut store = Store::default();
    let mut image = store.image("linux/amd64");
    for (said, code) in [("linux/amd64", None), ("linux/arm64", Some("platform-differs"))] {
        image.platform = Some(said.parse().unwrap());
        let index = store.index(std::slice::from_ref(&image));
        let outcome = store.walk(&index, said);
        let found = match &outcome {
            Err(Error::Refused(finding)) => Some(finding.problem.code()),
            _ => None,
        };
        assert_eq!(found, code, "{outcome:?}");
    }
}
