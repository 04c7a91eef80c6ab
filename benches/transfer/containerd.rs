//! Loads into containerd beside `ctr images import` of the same archive.

use std::path::Path;

use super::measure::{Cost, run_measured};
use super::support::containerd::Version;
use super::support::{Containerd, Registry, Sealift};
use super::{Report, folder, in_turn, peak_of, save};

/// Each run is into an empty containerd: what one namespace has, no other has to get again.
pub fn load_beside_import(report: &mut Report, registry: &Registry, name: &str) {
    let (sealift, folder) = (Sealift::new(), folder());
    let archive = folder.path().join("images.tar");
    save(&sealift, &format!("{}/{name}", registry.address()), &archive);
    for version in [Version::V1_6, Version::V2_1] {
        let mut peak = 0;
        let load = || {
            let cost = load(&sealift, version, &archive);
            peak = peak.max(cost.peak);
            cost
        };
        let (load, import) = in_turn(load, || import(version, &archive));
        let version = version.text().trim_end_matches('.');
        println!("load into containerd {version} {load:.2} s, ctr images import {import:.2} s");
        report.line(
            &format!("load / ctr images import, {version}, wall"),
            load / import,
            load <= 0.8 * import,
            "at most 0.8",
        );
        peak_of(report, &format!("load into containerd {version}"), peak);
    }
}

fn load(sealift: &Sealift, version: Version, archive: &Path) -> Cost {
    let containerd = Containerd::start(version);
    let mut command = sealift.command(&["load", "-q", "--to", "containerd", "--namespace", "default"]);
    command.arg("--containerd-address").arg(containerd.socket());
    run_measured(command.arg(archive))
}

fn import(version: Version, archive: &Path) -> Cost {
    let containerd = Containerd::start(version);
    // The client of the same version sees a folder that both reach.
    let seen = containerd.data("images.tar");
    std::fs::hard_link(archive, &seen)
        .or_else(|_| std::fs::copy(archive, &seen).map(drop))
        .unwrap();
    let mut command = containerd.ctr_command("default");
    run_measured(
        command
            .args(["images", "import"])
            .arg(containerd.data_inside("images.tar")),
    )
}
