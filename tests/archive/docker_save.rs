//! Archives of `docker save`, and of tools that write like it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sealift::archive::segments::Segments;
use sealift::archive::{DockerSave, Opened, Options, open_any};
use sealift::blob::Uncompressed as _;
use sealift::error::Remedy;
use sealift::oci::{Compression, Digest};
use sealift::{Error, ErrorKind, Problem, Result};
use tar::EntryType;

use crate::good::open;
use crate::images::{Sample, gzip};
use crate::saved::{self, Image, Links as _, app, digest};
use crate::tar_builder::TarBuilder;

fn any(path: &Path) -> Result<Opened> {
    open_any(&[path.to_path_buf()], &Options::default())
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn docker_save(path: &Path) -> DockerSave {
    match any(path) {
        Ok(Opened::DockerSave(save)) => save,
        Ok(Opened::Layout(layout)) => panic!("{} is taken for a layout", layout.label()),
        Err(error) => panic!("{error}"),
    }
}

fn read(save: &DockerSave, diff_id: &Digest) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = save.open(diff_id)?.read_to_end(&mut bytes);
    read.map_err(|error| Error::from_reader(error, |error| panic!("{error}")))?;
    Ok(bytes)
}

/// Everything that these images are, out of the archive.
fn assert_reads(what: &str, save: &DockerSave, images: &[Image], compression: Compression) {
    let ids: Vec<Digest> = save.images().iter().map(|image| image.image_id).collect();
    assert_eq!(ids, images.iter().map(Image::id).collect::<Vec<_>>(), "{what}");
    for (found, image) in save.images().iter().zip(images) {
        assert_eq!(&*found.config_raw, image.config.as_bytes(), "{what}");
        let tags: Vec<String> = found.tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, image.tags, "{what}");
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| digest(layer)).collect();
        assert_eq!(found.config.diff_ids, diff_ids, "{what}");
        for (diff_id, layer) in diff_ids.iter().zip(&image.layers) {
            assert_eq!(read(save, diff_id).unwrap(), layer.as_bytes(), "{what}");
            let size = u64::try_from(layer.len()).unwrap();
            assert_eq!(save.size(diff_id).unwrap(), Some(size), "{what}");
            let [stored] = save.stored(diff_id) else {
                panic!("{what}: not one form of {diff_id}");
            };
            assert_eq!(stored.compression(), compression, "{what}");
            let bytes = match compression {
                Compression::None => layer.as_bytes().to_vec(),
                Compression::Gzip => gzip(layer.as_bytes()),
                Compression::Zstd => crate::images::zstd(layer.as_bytes()),
            };
            assert_eq!(save.digest(stored).unwrap(), Digest::sha256(&bytes), "{what}");
            assert_eq!(
                stored.stored().size,
                u64::try_from(bytes.len()).unwrap(),
                "{what}"
            );
        }
    }
    let absent = digest("nobody's");
    assert_eq!(save.size(&absent).unwrap(), None, "{what}");
    assert!(save.stored(&absent).is_empty(), "{what}");
    assert_eq!(
        save.open(&absent).err().unwrap().kind(),
        ErrorKind::NotFound,
        "{what}"
    );
}

#[test]
fn every_form_of_docker_save_is_read() {
    use Compression::{Gzip, None as Plain, Zstd};
    let nameless = Image::new(&["base", "top"], &[]);
    let two = [app(), Image::new(&["base", "other"], &["localhost/other:2"])];
    let (one, none) = ([app()], [nameless.clone()]);
    let files = |files: Vec<(String, Vec<u8>)>| TarBuilder::default().files(&files);
    let forms: Vec<(&str, TarBuilder, &[Image], Compression)> = vec![
        ("Docker 20.10", saved::docker20(&app()), &one, Plain),
        ("Docker 20.10, by id", saved::docker20(&nameless), &none, Plain),
        ("Docker 25.0", files(saved::docker28(&app(), false)), &one, Plain),
        (
            "Docker 25.0, by id",
            files(saved::docker28(&nameless, false)),
            &none,
            Plain,
        ),
        ("Docker 28", files(saved::docker28(&app(), true)), &one, Plain),
        (
            "Docker 28, by id",
            files(saved::docker28(&nameless, true)),
            &none,
            Plain,
        ),
        ("skopeo", saved::skopeo(&one), &one, Plain),
        ("podman, several", saved::skopeo(&two), &two, Plain),
        ("crane", files(saved::crane(&one)), &one, Gzip),
        ("crane, several", files(saved::crane(&two)), &two, Gzip),
        ("rules_oci", files(saved::rules_oci(&one)), &one, Gzip),
        ("rules_docker", files(saved::rules_docker(&two)), &two, Plain),
        ("zstd, dotted", files(saved::zstd_dotted(&app())), &one, Zstd),
    ];
    for (what, tar, images, compression) in forms {
        let file = file_of(&tar.end());
        assert_reads(what, &docker_save(file.path()), images, compression);
        let error = open(file.path()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Content, "{what}");
        let Error::Refused(finding) = &error else {
            panic!("{what}: {error}");
        };
        assert_eq!(finding.problem, Problem::DockerSave, "{what}");
        let convert = Remedy::ConvertDockerSave(Some(file.path().display().to_string()));
        assert_eq!(error.hint(), Some(convert.into()), "{what}");
    }
}

#[test]
fn a_docker_save_archive_with_original_manifests_is_a_layout() {
    // manifest.json beside a layout, as sealift, buildx, nerdctl and Docker's containerd store write it.
    let file = file_of(&Sample::plain().tar());
    assert!(matches!(any(file.path()), Ok(Opened::Layout(_))));
    let without = |name: &str| {
        let files = Sample::plain().files();
        let rest = files.into_iter().filter(|(other, _)| other != name);
        file_of(&TarBuilder::default().files(&rest.collect::<Vec<_>>()).end())
    };
    assert!(matches!(
        any(without("manifest.json").path()),
        Ok(Opened::Layout(_))
    ));
    // Half a layout is a damaged layout, and never read as something that needs none.
    for name in ["oci-layout", "index.json"] {
        let error = any(without(name).path()).err().unwrap().to_string();
        assert!(error.ends_with(&format!("{name}: missing")), "{error}");
    }
}

#[test]
fn docker_save_archives_may_be_split_compressed_or_extracted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bytes = saved::docker20(&app()).end();
    for (at, part) in bytes.chunks(1500).enumerate() {
        std::fs::write(path(&format!("cut.tar.{:03}", at + 1)), part).unwrap();
    }
    std::fs::write(path("i.tar.gz"), gzip(&bytes)).unwrap();
    std::fs::write(path("i.tar.zst"), zstd::encode_all(bytes.as_slice(), 1).unwrap()).unwrap();
    for (name, data) in saved::docker28(&app(), true) {
        let file = path("folder").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, data).unwrap();
    }
    for name in ["cut.tar", "cut.tar.001", "i.tar.gz", "i.tar.zst", "folder"] {
        let save = docker_save(&path(name));
        assert_eq!(save.label(), path(name).display().to_string());
        assert_reads(name, &save, &[app()], Compression::None);
    }
    assert!(open(&path("folder")).is_err());
    // The older form has its layers in folders of their own, which are not looked into.
    std::fs::create_dir(path("older")).unwrap();
    std::fs::write(path("older/manifest.json"), "[]").unwrap();
    let error = any(&path("older")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Content);
    assert!(error.to_string().contains("pack it into a tar again"), "{error}");
}

#[test]
fn links_lead_to_files_inside() {
    let image = Image::new(&["base", "top"], &["app:1"]);
    let config = format!("{}.json", image.id().hex());
    let layers = ["a/b/layer.tar", "hard"].map(String::from).to_vec();
    let manifest = format!("[{}]", image.item(config.clone(), layers));
    let tar = TarBuilder::default()
        .file("files/base", b"base")
        .file("files/top", b"top")
        .file(&config, image.config.as_bytes())
        .file("manifest.json", manifest.as_bytes());
    let chain = tar
        .clone()
        .symlink("a/b/layer.tar", "../.././files/./link")
        .symlink("files/link", "base")
        .link(EntryType::Link, "hard", "./files/top");
    let long = tar
        .pax(&[("linkpath", "../../files/base")])
        .symlink("a/b/layer.tar", "x")
        .kind("././@LongLink", EntryType::GNULongLink, b"files/top\0")
        .link(EntryType::Link, "hard", "x");
    for tar in [chain, long] {
        let file = file_of(&tar.end());
        assert_reads(
            "links",
            &docker_save(file.path()),
            std::slice::from_ref(&image),
            Compression::None,
        );
    }
}

#[test]
fn an_image_listed_twice_is_one_image() {
    let [a, b] = [&["app:1"][..], &["app:1", "app:2"]].map(|tags| Image::new(&["base"], tags));
    let file = file_of(&TarBuilder::default().files(&saved::rules_docker(&[a, b])).end());
    let save = docker_save(file.path());
    assert_eq!(save.images().len(), 1);
    let tags: Vec<String> = save.images()[0].tags.iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["app:1", "app:2"]);
}

#[test]
fn every_compression_of_a_layer_is_recognized() {
    let images = [
        Image::new(&["base"], &["a:1"]),
        Image::new(&["base", "top"], &["b:1"]),
    ];
    let configs = images
        .each_ref()
        .map(|image| format!("{}.json", image.id().hex()));
    let manifest = format!(
        "[{},{}]",
        images[0].item(configs[0].clone(), vec!["base.tar.gz".into()]),
        images[1].item(configs[1].clone(), vec!["base.tar".into(), "top.tar".into()]),
    );
    let tar = TarBuilder::default()
        .file(&configs[0], images[0].config.as_bytes())
        .file(&configs[1], images[1].config.as_bytes())
        .file("base.tar.gz", &gzip(b"base"))
        .file("base.tar", b"base")
        .file("top.tar", b"top")
        .file("manifest.json", manifest.as_bytes());
    let save = docker_save(file_of(&tar.end()).path());
    let forms: Vec<_> = save
        .stored(&digest("base"))
        .iter()
        .map(|form| form.compression())
        .collect();
    assert_eq!(forms, [Compression::Gzip, Compression::None]);
    assert_eq!(save.size(&digest("base")).unwrap(), Some(4));
    assert_eq!(read(&save, &digest("base")).unwrap(), b"base");
}

#[test]
fn a_damaged_layer_is_found_when_it_is_read() {
    let image = Image::new(&["base"], &["app:1"]);
    let damaged = |change: fn(&mut Vec<u8>)| {
        let mut files = saved::crane(std::slice::from_ref(&image));
        let layer = files.iter_mut().find(|(name, _)| name.ends_with(".gz")).unwrap();
        change(&mut layer.1);
        docker_save(file_of(&TarBuilder::default().files(&files).end()).path())
    };
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("compression", |layer| layer.truncate(layer.len() - 1)),
        ("compression", |layer| layer[15] ^= 1),
        ("data-after-stream", |layer| layer.push(0)),
    ];
    for (code, change) in changes {
        let save = damaged(change);
        for outcome in [
            read(&save, &digest("base")).map(|_| ()),
            save.size(&digest("base")).map(|_| ()),
        ] {
            let Err(Error::Refused(finding)) = outcome else {
                panic!("{code}: {outcome:?}");
            };
            assert_eq!(finding.problem.code(), code);
            assert_eq!(finding.place.archive.as_deref(), Some(save.label()));
            assert!(finding.place.entry.unwrap().ends_with(".tar.gz"));
        }
    }
    let small = Options {
        max_layer_size: 3,
        ..Options::default()
    };
    let file = file_of(&TarBuilder::default().files(&saved::crane(&[image])).end());
    let Ok(Opened::DockerSave(save)) = open_any(&[file.path().to_path_buf()], &small) else {
        panic!("no docker save archive");
    };
    let error = save.size(&digest("base")).unwrap_err();
    assert!(
        error.to_string().ends_with("decompresses to more than 3 bytes"),
        "{error}"
    );
}

#[test]
fn a_file_that_shrinks_does_not_end_a_layer() {
    let file = file_of(&saved::docker20(&app()).end());
    let save = docker_save(file.path());
    file.as_file().set_len(512).unwrap();
    for error in [
        read(&save, &digest("top")).unwrap_err(),
        save.digest(&save.stored(&digest("top"))[0]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("shorter than it was"), "{error}");
    }
}

#[test]
fn an_interrupt_ends_the_reading_of_a_layer() {
    let options = Options::default();
    let file = file_of(&TarBuilder::default().files(&saved::crane(&[app()])).end());
    let Ok(Opened::DockerSave(save)) = open_any(&[file.path().to_path_buf()], &options) else {
        panic!("no docker save archive");
    };
    options.interrupt.stop();
    let layer = digest("top");
    assert!(matches!(save.size(&layer), Err(Error::Interrupted)));
    assert!(matches!(
        save.digest(&save.stored(&layer)[0]),
        Err(Error::Interrupted)
    ));
}

#[test]
fn no_cut_is_read_and_no_flip_makes_another_image() {
    let image = Image::new(&["base"], &["app:1"]);
    let whole = saved::skopeo(std::slice::from_ref(&image)).end();
    let open = |bytes: &[u8]| {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let segments = Segments::of_file("x", file, Path::new("x")).unwrap();
        Opened::tar(segments, &Options::default())
    };
    for length in (0..whole.len()).filter(|length| length % 7 == 0 || length % 512 < 2) {
        assert!(open(&whole[..length]).is_err(), "cut at {length}");
    }
    let mut wrong_layers = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let Ok(Opened::DockerSave(save)) = open(&bytes) else {
            continue;
        };
        let [found] = save.images() else {
            panic!("{} images after a flip at {at}", save.images().len());
        };
        assert_eq!(found.image_id, image.id(), "flipped at {at}");
        let layer = read(&save, &digest("base")).unwrap();
        assert_eq!(layer.len(), 4, "flipped at {at}");
        wrong_layers += usize::from(layer != b"base");
    }
    assert_eq!(
        wrong_layers, 4,
        "what the digest of a layer finds is its own bytes"
    );
}

#[test]
fn all_configs_together_have_a_limit() {
    let pad = "x".repeat((4 << 20) - 200);
    let images: Vec<Image> = (0..17)
        .map(|at| {
            let mut image = Image::new(&[], &[]);
            image.config = image
                .config
                .replacen('{', &format!("{{\"pad\":\"{at}{pad}\","), 1);
            image
        })
        .collect();
    let open =
        |images: &[Image]| any(file_of(&TarBuilder::default().files(&saved::crane(images)).end()).path());
    assert!(matches!(open(&images[..15]), Ok(Opened::DockerSave(_))));
    let error = open(&images).err().unwrap().to_string();
    assert!(error.ends_with("over the limit of 67108864"), "{error}");
}
