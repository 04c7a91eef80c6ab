//! Loads for which the engine's disk is too small.

use crate::loading::Images;
use crate::support::{Daemon, Engine, Image, Layer, Sealift, Store, assert_documented};

/// What does not fit is refused before anything is sent, with what is needed and what is free. The engine would have
/// failed in the middle.
fn what_does_not_fit_is_refused(engine: Engine, store: Store) {
    let daemon = Daemon::options(engine, store).disk("32m").start();
    let (images, mut image) = (Images::new(), Image::sample("app", "1"));
    for (_, layers) in &mut image.platforms {
        layers.push(Layer::new().noise("app/more", 7, 20_000_000));
    }
    let built = images.add("app:1", &image);
    let sealift = Sealift::new().docker(&daemon);
    let path = images.path().to_str().unwrap().to_owned();
    for more in [&[][..], &["--dry-run"]] {
        let said = sealift.run(&[&["load", &path][..], more].concat()).code(3);
        for part in [
            "error: cannot load into ",
            " bytes are needed, ",
            " are free",
            "docker system df",
        ] {
            assert!(said.stderr.contains(part), "{said:?}");
        }
        assert_eq!(daemon.images(), [""; 0]);
    }
    let plan = sealift
        .run(&["load", &path, "--dry-run", "--json"])
        .code(3)
        .json();
    assert_documented(&plan);
    let room = &plan["room"];
    assert!(room["needed"].as_u64() > room["free"].as_u64(), "{room}");
    assert_eq!(room["refused"], true);
    let document = sealift.run(&["load", &path, "--json"]).code(3).json();
    assert_eq!(document["error"]["exit"], 3);
    let save = ["save", "-q", "--from", &path, "app:1", "-o", "app.tar"];
    sealift.run(&save).ok();
    let bare = daemon.docker_with_stdin(&["load"], &sealift.path("app.tar"));
    let said = bare.stdout.clone() + &bare.stderr;
    assert!(said.contains("no space left on device"), "{bare:?}");
    // The containerd store of Docker 26 has it by then, not unpacked.
    daemon.docker(&["rmi", "-f", "app:1"]);

    daemon.resize_disk("200m");
    let plan = sealift.run(&["load", &path, "--dry-run", "--json"]).ok().json();
    let room = &plan["room"];
    assert!(room["needed"].as_u64() > Some(40_000_000), "{room}");
    assert!(room["free"].as_u64() > room["needed"].as_u64(), "{room}");
    let said = sealift.run(&["load", &path]).ok();
    assert!(!said.stderr.contains("may not fit"), "{said:?}");
    assert_eq!(daemon.images(), [format!("app:1 {}", built.digest)]);

    // What is there already needs no room.
    daemon.resize_disk("64m");
    sealift.run(&["load", &path]).ok();
}

on_every_engine!(what_does_not_fit_is_refused);
