//! Images in podman that show a wrong digest, and are replaced.

use rustix::process::{Pid, Signal, kill_process};

use crate::load_podman::Loader;
use crate::podman_killed::{pull_of, start, wait_gone};
use crate::support::Image;
use crate::support::podman::{User, Version};

fn a_replacement_that_fails_or_is_ended_loses_nothing(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let app = loader.add("images", "docker.io/library/app:1", &Image::sample("app", "1"));
    loader.add("source", "docker.io/library/app:1", &Image::sample("app", "1"));
    podman.load(&[&podman.inside("source")]).ok();
    let tar = podman.inside("home/app.tar");
    podman
        .podman(&["save", "-q", "-o", &tar, "docker.io/library/app:1"])
        .ok();
    podman.podman(&["rmi", "docker.io/library/app:1"]).ok();
    podman.podman(&["load", "-q", "-i", &tar]).ok();
    podman
        .podman(&["tag", "docker.io/library/app:1", "localhost/mine:kept"])
        .ok();
    let before = podman.images();
    assert_ne!(before[0]["Digest"], app.digest.as_str());
    let names = podman.names();

    if user == User::Rootless {
        let policy = |transports: &str| {
            podman.write_home(
                ".config/containers/policy.json",
                &format!(r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{transports}}}"#),
            );
        };
        let signed = r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}]"#;
        policy(&format!(r#"{{"docker":{{"docker.io":{signed}}}}}"#));
        podman.load(&[&podman.inside("images"), "--force"]).code(5);
        assert_eq!(podman.images(), before, "nothing was changed");
        // Only the image itself is refused, once its twin is there.
        policy(&format!(r#"{{"docker":{{"docker.io/library/app:1":{signed}}}}}"#));
        podman.load(&[&podman.inside("images"), "--force"]).code(5);
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1");
        }
        policy("{}");
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let mut child = start(podman, &[&podman.inside("images"), "--force"]);
        if let Some(pull) = pull_of(&mut child, "docker.io/library/app:1") {
            kill_process(Pid::from_child(&child), signal).unwrap();
            wait_gone(pull);
        }
        child.wait().unwrap();
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1");
        }
    }
    podman.load(&[&podman.inside("images"), "--force"]).ok();
    assert_eq!(podman.names(), names);
    assert_eq!(podman.digest("localhost/mine:kept"), app.digest);
}

on_both_podmans!(a_replacement_that_fails_or_is_ended_loses_nothing);

/// Two images that podman shows with digests of its own, and with a further name each.
fn with_wrong_digests(loader: &Loader, names: [&str; 2]) -> [String; 2] {
    let podman = &loader.podman;
    names.map(|short| {
        let name = format!("docker.io/library/{short}:1");
        let built = loader.add("images", &name, &Image::sample(short, "1"));
        podman
            .load(&[&podman.inside("images"), "--image", &format!("{short}:1")])
            .ok();
        let tar = podman.inside(&format!("home/{short}.tar"));
        podman.podman(&["save", "-q", "-o", &tar, &name]).ok();
        podman.podman(&["rmi", &name]).ok();
        podman.podman(&["load", "-q", "-i", &tar]).ok();
        podman
            .podman(&["tag", &name, &format!("localhost/{short}:kept")])
            .ok();
        assert_ne!(podman.digest(&name), built.digest);
        built.digest
    })
}

fn a_signal_between_two_replacements_loses_no_name(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let digests = with_wrong_digests(&loader, ["one", "two"]);
    let names = podman.names();
    assert_eq!(names.len(), 4);
    let force = [podman.inside("images"), "--force".into()];
    let force = force.each_ref().map(String::as_str);
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = start(podman, &force);
        if let Some(pull) = pull_of(&mut child, "docker.io/library/two:1") {
            kill_process(Pid::from_child(&child), signal).unwrap();
            wait_gone(pull);
        }
        child.wait().unwrap();
        assert_eq!(podman.digest("docker.io/library/one:1"), digests[0]);
        for name in &names {
            assert_eq!(podman.cat(name, "/app/version"), "1", "{name}");
        }
    }
    podman.load(&force).ok();
    assert_eq!(podman.names(), names);
    for (name, digest) in ["localhost/one:kept", "localhost/two:kept"].iter().zip(&digests) {
        assert_eq!(podman.digest(name), *digest);
    }
}

on_both_podmans!(a_signal_between_two_replacements_loses_no_name);

fn a_tag_like_that_of_a_twin_moves_no_name(version: Version, user: User) {
    let loader = Loader::new(version, user);
    let podman = &loader.podman;
    let (app, prod) = ("docker.io/library/app:1", "docker.io/library/prod:1");
    loader.add("images", app, &Image::sample("app", "1"));
    loader.add("images", prod, &Image::sample("app", "2"));
    podman.load(&[&podman.inside("images")]).ok();
    let id = podman
        .podman(&["image", "inspect", "--format", "{{.Id}}", app])
        .ok();
    let tag = format!("sealift-replaces-{}", id.stdout.trim());

    let evil = format!("docker.io/library/evil:{tag}");
    loader.add("evil", &evil, &Image::sample("app", "2"));
    let refused = podman.load(&[&podman.inside("evil")]).code(6);
    assert!(refused.stderr.contains("such a tag is for"), "{}", refused.stderr);
    assert_eq!(podman.names(), [app, prod]);

    podman.podman(&["tag", prod, &evil]).ok();
    loader.add("more", "docker.io/library/more:1", &Image::sample("more", "1"));
    podman.load(&[&podman.inside("more")]).ok();
    assert_eq!(podman.cat(prod, "/app/version"), "2");
    assert_eq!(podman.cat(&evil, "/app/version"), "2");
}

on_both_podmans!(a_tag_like_that_of_a_twin_moves_no_name);
