//! `verify --report`: what a report says, and how it looks in a browser and on paper.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::serve::add_entry;
use crate::serve_page::{HOSTILE, UNREADABLE, allowed, between};
use crate::support::browser::Browser;
use crate::support::image::store;
use crate::support::{Built, Image, Layer, Run, Sealift, Transcript, assert_documented, run};

/// An archive with an image that has labels and a referrer, and the layout that it was saved from.
fn archive(sealift: &Sealift) -> Built {
    let layout = sealift.path("layout");
    let built = Image::small("app").build(&layout, "registry.example/team/app:1");
    let empty = store(&layout.join("blobs/sha256"), b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let signature = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json", "config": empty, "layers": [empty],
        "subject": { "mediaType": built.media_type, "digest": built.digest, "size": built.size },
    });
    add_entry(&layout, &signature, json!({}));
    built
}

fn read(sealift: &Sealift, name: &str) -> String {
    fs::read_to_string(sealift.path(name)).unwrap()
}

/// Writes something else over the bytes of a blob.
fn damage(built: &Built, digest: &str) {
    let path = built.blob(digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// A report without what differs from run to run.
fn steady(sealift: &Sealift, built: &Built, text: &str) -> String {
    let line = |line: &str| {
        let of_run = ["| Verified | ", "| On host | ", "| By user | "];
        match of_run.iter().find(|name| line.starts_with(**name)) {
            Some(name) => {
                assert!(line.len() > name.len() + " |".len(), "{line}");
                format!("{name}... |\n")
            }
            None => format!("{line}\n"),
        }
    };
    let shown = Run {
        line: "cat report.md".into(),
        code: Some(0),
        signal: None,
        stdout: text.lines().map(line).collect(),
        stderr: String::new(),
    };
    let mut transcript = Transcript::of(sealift);
    transcript
        .image("app:1", built)
        .name(env!("CARGO_PKG_VERSION"), "<version>");
    transcript.add("cat report.md", &shown).text()
}

#[test]
fn a_report_says_what_was_verified() {
    let sealift = Sealift::new();
    let built = archive(&sealift);
    let verify = ["verify", "-q", "layout", "--report"];
    for name in ["report.json", "report.md"] {
        sealift.run(&[&verify[..], &[name]].concat()).ok();
    }
    assert_snapshot!(steady(&sealift, &built, &read(&sealift, "report.md")), @"
    $ cat report.md
    # Verification of layout

    **GOOD**: Every byte was verified, and nothing is wrong.

    |  |  |
    | --- | --- |
    | Verified | ... |
    | On host | ... |
    | By user | ... |
    | With | sealift <version>, exit code 0 |
    | Checks | Every byte: the structure of the archive; digest, size and media type of every blob; the diff id of every layer; that everything that is named is present, and everything that is present is named |

    ## layout

    |  |  |
    | --- | --- |
    | Digest | `<digest 1>` |
    | Expected | no digest was given with `--expect` |
    | Read | 10 blobs, 3.8 kB (3,873 bytes) |

    ### Findings

    None.

    ### Images

    | Name | Digest | Evidence | Platforms | Size |
    | --- | --- | --- | --- | --- |
    | registry.example/team/app:1 | `<app:1>` | verified | linux/amd64, linux/arm64 | 3.8 kB |

    Evidence verified: the manifest is here and has this digest; config and layers are the ones that it names.

    ### Signatures and other referrers

    They travel along, and their bytes are verified as those of images are. Who signed is not verified: that a signature is here proves nothing about who made it.

    | Type | Digest | Of |
    | --- | --- | --- |
    | application/vnd.dev.cosign.artifact.sig.v1+json | `<digest 2>` | registry.example/team/app:1 |

    ### registry.example/team/app:1

    - index `<app:1>`
    - linux/amd64 manifest `<app:1 linux/amd64>`
      - config `<app:1 linux/amd64 config>`
      - created: 2023-11-14T22:13:20Z
      - layer `<app:1 linux/amd64 layer 1>`, 89 B
      - layer `<app:1 linux/amd64 layer 2>`, 102 B
    - linux/arm64 manifest `<app:1 linux/arm64>`
      - config `<app:1 linux/arm64 config>`
      - created: 2023-11-14T22:13:20Z
      - layer `<app:1 linux/amd64 layer 1>`, 89 B
      - layer `<app:1 linux/arm64 layer 2>`, 102 B
    ");

    let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
    assert_documented(&report);
    assert_eq!((&report["verdict"], &report["exit"]), (&json!("good"), &json!(0)));
    // The rest is the document of `--json`.
    let mut archive = report["archives"][0].clone();
    for name in ["expected", "files", "referrers", "contents"] {
        archive.as_object_mut().unwrap().remove(name).unwrap();
    }
    let own = sealift.run(&["verify", "--json", "layout"]).ok().json();
    assert_eq!(archive, own["archives"][0]);
    let archive = &report["archives"][0];
    assert_eq!(archive["referrers"][0]["subject"], built.digest.as_str());
    let contents = &archive["contents"][0];
    assert_eq!(contents["root"], built.digest.as_str());
    assert_eq!(contents["manifests"][0]["layers"][0]["form"], "stored");
    let run = &report["run"];
    assert_eq!(run["host"], rustix::system::uname().nodename().to_str().unwrap());
    assert!(
        run["started"].as_str().unwrap() <= run["ended"].as_str().unwrap(),
        "{run}"
    );
}

#[test]
fn a_report_of_something_wrong_is_written_too() {
    let sealift = Sealift::new();
    let built = archive(&sealift);
    damage(&built, &built.manifests[0].layers[0].digest);
    sealift
        .run(&["verify", "-q", "layout", "--report", "report.json"])
        .code(1);
    sealift
        .run(&["verify", "-q", "layout", "--report", "report.md"])
        .code(1);
    let text = steady(&sealift, &built, &read(&sealift, "report.md"));
    let is_about_errors = |line: &&str| {
        ["**BAD**", "exit code", "**error**", "**has errors**"]
            .iter()
            .any(|part| line.contains(part))
    };
    let shown: Vec<&str> = text.lines().filter(is_about_errors).collect();
    assert_snapshot!(shown.join("\n"), @"
    **BAD**: 1 error was found. Do not load this.
    | With | sealift <version>, exit code 1 |
    | **error** | layout: blobs/sha256/<app:1 linux/amd64 layer 1>: digest is <digest 2>, expected <app:1 linux/amd64 layer 1> |
    | registry.example/team/app:1 | `<app:1>` | **has errors** | linux/amd64, linux/arm64 | 3.8 kB |
    ");
    let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
    assert_eq!((&report["verdict"], &report["exit"]), (&json!("bad"), &json!(1)));

    // What cannot be read is neither good nor bad.
    fs::write(sealift.path("images.tar"), "no tar").unwrap();
    for (arguments, code, verdict, error) in [
        (
            &["absent.tar"][..],
            3,
            "unknown",
            "cannot open absent.tar: No such file or directory (os error 2)",
        ),
        (&["images.tar"], 1, "bad", ""),
        (&["layout", "absent.tar"], 1, "bad", ""),
    ] {
        sealift
            .run(&[&["verify", "-q", "--report", "report.json"], arguments].concat())
            .code(code);
        let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
        assert_eq!(
            (&report["verdict"], &report["exit"]),
            (&json!(verdict), &json!(code)),
            "{arguments:?}"
        );
        let last = report["archives"].as_array().unwrap().last().unwrap();
        let message = last["error"]["message"].as_str().unwrap();
        assert!(message.contains(error), "{message}");
    }
}

#[test]
fn a_report_names_files_and_forms_of_layers() {
    let sealift = Sealift::new();
    let layers = ["base", "app", "top"].map(|name| Layer::new().file(name, name));
    let built = Image::single(layers.into()).build(&sealift.path("layout"), "app:1");
    built.uncompress(&[1]);
    let save = [
        "save",
        "-q",
        "--from",
        "layout",
        "app:1",
        "--split",
        "4kB",
        "-o",
        "images.tar",
    ];
    let saved = sealift.run(&save).ok().stdout;
    let mut verify = sealift.command(&[
        "verify",
        "-q",
        "images.tar",
        "--expect",
        saved.trim(),
        "--report",
        "report.json",
    ]);
    run(verify.env("SUDO_USER", "caller")).ok();
    let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
    assert_eq!(report["run"]["sudo_user"], "caller");
    let archive = &report["archives"][0];
    assert_eq!(archive["expected"], true);
    let files = archive["files"].as_array().unwrap();
    assert!(files.len() > 1, "{files:?}");
    for (at, file) in files.iter().enumerate() {
        let name = format!("images.tar.{:03}", at + 1);
        let size = fs::metadata(sealift.path(&name)).unwrap().len();
        assert_eq!(*file, json!({ "path": name, "size": size }));
    }
    let forms = |report: &Value| -> Vec<Value> {
        let layers = report["archives"][0]["contents"][0]["manifests"][0]["layers"].as_array();
        layers
            .unwrap()
            .iter()
            .map(|layer| layer["form"].clone())
            .collect()
    };
    assert_eq!(forms(&report), ["stored", "uncompressed", "stored"]);

    fs::remove_file(built.blob(&built.manifests[0].layers[2].digest)).unwrap();
    sealift
        .run(&["verify", "-q", "layout", "--report", "report.json"])
        .code(1);
    let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
    assert_eq!(forms(&report), ["stored", "uncompressed", "missing"]);
}

#[test]
fn a_report_says_where_images_come_from_and_what_refers_to_them() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    let built = Image::sample("app", "1").build(&layout, "registry.example/app:1");
    // A signature as cosign stores it, and an artifact with labels.
    let empty = store(&layout.join("blobs/sha256"), b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let signature = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example", "config": empty, "layers": [empty],
    });
    let name = format!("registry.example/app:{}.sig", built.digest.replace(':', "-"));
    add_entry(&layout, &signature, json!({ "io.containerd.image.name": name }));
    let chart = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example", "config": empty, "layers": [empty],
        "annotations": {
            "org.opencontainers.image.source": "https://git.example/app",
            "org.opencontainers.image.title": "x".repeat(400),
            "org.example": "not shown",
        },
    });
    let name = json!({ "io.containerd.image.name": "registry.example/chart:1" });
    add_entry(&layout, &chart, name);
    // The host has the image already.
    sealift
        .run(&[
            "load",
            "-q",
            "layout",
            "--image",
            "registry.example/app:1",
            "--to",
            "oci:host",
        ])
        .ok();
    sealift
        .run(&["inventory", "--from", "oci:host", "-o", "host.json"])
        .ok();
    let save = [
        "save",
        "-q",
        "--from",
        "layout",
        "--all",
        "--have",
        "host.json",
        "-o",
        "images.tar",
    ];
    sealift.run(&save).ok();
    let verify = ["verify", "-q", "images.tar", "--digests-only", "--report"];
    for name in ["report.json", "report.md"] {
        sealift.run(&[&verify[..], &[name]].concat()).ok();
    }
    let text = steady(&sealift, &built, &read(&sealift, "report.md"));
    assert!(
        text.contains("| Left out | 4 layers, 2.3 MB, left out for the inventory "),
        "{text}"
    );
    let parts = [
        "**GOOD**",
        "| Checks",
        "| attestation",
        "| signature",
        ", left out",
        "- source",
    ];
    let is_shown = |line: &&str| {
        parts
            .iter()
            .any(|part| line.trim_start().starts_with(part) || line.ends_with(part))
    };
    let shown: Vec<&str> = text.lines().filter(is_shown).collect();
    assert_snapshot!(shown.join("\n"), @"
    **GOOD**: Every blob has its digest, and nothing is missing. What is left out was not verified.
    | Checks | Digests only: the structure of the archive; digest, size and media type of every blob; that everything that is named is present, and everything that is present is named. Layers were not decompressed, so their diff ids were not verified |
    | attestation | `<digest 4>` | registry.example/app:1, linux/amd64 |
    | attestation | `<digest 5>` | registry.example/app:1, linux/arm64/v8 |
    | signature | `<digest 6>` | registry.example/app:1 |
      - layer `<app:1 linux/amd64 layer 1>`, 1.0 MB, left out
      - layer `<app:1 linux/amd64 layer 2>`, 200 kB, left out
      - layer `<app:1 linux/amd64 layer 3>`, 50.2 kB, left out
      - layer `<app:1 linux/arm64/v8 layer 1>`, 1.0 MB, left out
      - layer `<app:1 linux/amd64 layer 2>`, 200 kB, left out
      - layer `<app:1 linux/amd64 layer 3>`, 50.2 kB, left out
      - source: https:&#47;/git.example/app
    ");
    let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
    let archive = &report["archives"][0];
    let contents = &archive["contents"];
    assert_eq!(contents[0]["manifests"][1]["layers"][2]["form"], "left-out");
    let title = format!("{}...", "x".repeat(300));
    let labels = json!({ "source": "https://git.example/app", "title": title });
    assert_eq!(contents[1]["manifests"][0]["labels"], labels);
}

#[test]
fn a_fifo_gets_one_report() {
    let sealift = Sealift::new();
    archive(&sealift);
    run(Command::new("mkfifo").arg(sealift.path("fifo.json"))).ok();
    let both = fs::OpenOptions::new().read(true).write(true).to_owned();
    for arguments in [
        "verify -q layout --report fifo.json",
        "load -q layout --to oci:new --receipt fifo.json",
    ] {
        let mut fifo = both.open(sealift.path("fifo.json")).unwrap();
        let arguments: Vec<&str> = arguments.split(' ').collect();
        sealift.run(&arguments).ok();
        // All that was written is there to be read.
        let mut bytes = vec![0; 1 << 16];
        let length = fifo.read(&mut bytes).unwrap();
        let document: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!(document["exit"], 0);
    }
}

#[test]
fn an_interrupted_run_has_a_report() {
    for signal in [Signal::TERM, Signal::KILL] {
        let sealift = Sealift::new();
        archive(&sealift);
        fs::write(sealift.path("report.json"), "{\"verdict\": \"good\"}").unwrap();
        run(Command::new("mkfifo").arg(sealift.path("images.tar"))).ok();
        let mut command =
            sealift.command(&["verify", "-q", "layout", "images.tar", "--report", "report.json"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has opened the archive.
        let _writer = fs::File::create(sealift.path("images.tar")).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
        let report: Value = serde_json::from_str(&read(&sealift, "report.json")).unwrap();
        assert_documented(&report);
        assert_eq!(report["verdict"], "unknown");
        let archives = report["archives"].as_array().unwrap();
        if signal == Signal::KILL {
            assert_eq!(
                (&report["exit"], &report["error"], archives.len()),
                (&Value::Null, &Value::Null, 0)
            );
            continue;
        }
        assert_eq!(report["exit"], 143);
        assert_eq!(report["error"]["message"], "interrupted by SIGTERM");
        // What was verified before is in it.
        assert_eq!((archives.len(), &archives[0]["good"]), (1, &json!(true)));
    }
}

#[test]
fn reports_that_cannot_be_written_are_refused_at_once() {
    let sealift = Sealift::new();
    archive(&sealift);
    let mut transcript = Transcript::of(&sealift);
    transcript.run("verify layout --report report.pdf");
    transcript.run("verify layout --report absent/report.html");
    transcript.run("verify layout --report layout/index.json");
    transcript.run("verify registry.example/app:1 --report report.md");
    transcript.run("verify --registry-root layout --report report.md");
    fs::write(sealift.path("list.md"), "app:1\n").unwrap();
    transcript.run("verify --images list.md --report list.md");
    assert_eq!(read(&sealift, "list.md"), "app:1\n");
    assert_snapshot!(transcript.text(), @"
    $ sealift verify layout --report report.pdf
    2> error: invalid value 'report.pdf' for '--report <FILE>': a report is HTML, JSON or Markdown: FILE.html, FILE.json or FILE.md
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift verify layout --report absent/report.html
    2> error: cannot write to absent/report.html: No such file or directory (os error 2)
    2> hint: mkdir -p absent
    exit 3

    $ sealift verify layout --report layout/index.json
    2> error: layout/index.json is inside layout, which is read
    2> hint: name a target outside of it
    exit 2

    $ sealift verify registry.example/app:1 --report report.md
    2> error: --report is for archives, and images in registries were named
    2> hint: --json and --metrics report on registries
    exit 2

    $ sealift verify --registry-root layout --report report.md
    2> error: the argument '--registry-root <DIR>' cannot be used with '--report <FILE>'
    2>
    2> Usage: sealift verify --registry-root <DIR> [FILE|IMAGE]...
    2>
    2> For more information, try '--help'.
    exit 2

    $ sealift verify --images list.md --report list.md
    2> error: the argument '--images <FILE>' cannot be used with '--report <FILE>'
    2>
    2> Usage: sealift verify --images <FILE> [FILE|IMAGE]...
    2>
    2> For more information, try '--help'.
    exit 2
    ");
}

#[test]
fn a_page_runs_nothing_and_loads_nothing() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    archive(&sealift);
    let empty = store(&layout.join("blobs/sha256"), b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let hostile = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": HOSTILE,
        "config": empty, "layers": [empty],
    });
    add_entry(&layout, &hostile, json!({}));
    for name in ["report.html", "report.md"] {
        sealift.run(&["verify", "-q", "layout", "--report", name]).ok();
    }
    let page = read(&sealift, "report.html");
    assert!(
        page.contains("&lt;script&gt;document.title=&#39;taken&#39;") && !page.contains("<script"),
        "{page}"
    );
    let policy =
        between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"").replace("&#39;", "'");
    let expected = format!(
        "default-src 'none'; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        allowed(&page, "style")
    );
    assert_eq!(policy, expected);
    let text = read(&sealift, "report.md");
    assert!(
        text.contains("&lt;script\\>document.title='taken'") && !text.contains("<script"),
        "{text}"
    );
}

/// The number of pages of a PDF of chromium.
fn pages(pdf: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pdf);
    text.matches("/Type /Page\n").count()
}

/// How many images have their first platform broken within a word.
const BROKEN: &str = "[...document.querySelectorAll('.names .platforms')].filter((cell) => {
    const word = document.createRange();
    word.setStart(cell.firstChild, 0);
    word.setEnd(cell.firstChild, 'linux/amd64'.length);
    return word.getClientRects().length > 1;
}).length";

#[test]
fn a_page_fits_screens_and_paper() {
    let sealift = Sealift::new();
    let layout = sealift.path("layout");
    archive(&sealift);
    for number in 0..12 {
        Image::small(&format!("app{number}")).build(&layout, &format!("registry.example/app{number}:1"));
    }
    let long = format!("registry.example:5000/{}app:1", "quite-a-long-name/".repeat(9));
    Image::small("long").build(&layout, &long);
    sealift
        .run(&["verify", "-q", "layout", "--report", "report.html"])
        .ok();
    let address = format!(
        "data:text/html;base64,{}",
        STANDARD.encode(read(&sealift, "report.html"))
    );
    let mut browser = Browser::start();
    for (width, height) in [(390, 844), (1280, 800)] {
        for scheme in ["light", "dark"] {
            browser.screen(width, height, scheme);
            browser.open(&address);
            let what = format!("{width} in {scheme}");
            let beyond =
                browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(
                (beyond, browser.value("innerWidth")),
                (json!(0), json!(width)),
                "{what}"
            );
            assert_eq!(browser.value(UNREADABLE), json!([]), "{what}");
            assert_eq!(browser.value(BROKEN), 0, "{what}");
            let (requests, complaints) = browser.requests_and_complaints();
            assert!(complaints.is_empty(), "{what}: {complaints:?}");
            assert!(
                requests.iter().all(|request| request.starts_with("\"data:")),
                "{what}: {requests:?}"
            );
            let spoken = browser.spoken();
            for expected in [
                "heading layout",
                "table",
                "columnheader Evidence",
                "rowheader registry.example/app0:1",
            ] {
                assert!(
                    spoken.iter().any(|said| said.starts_with(expected)),
                    "{expected}: {spoken:#?}"
                );
            }
        }
    }
    // On paper nothing is cut off, and nothing is coloured.
    browser.screen(680, 980, "dark");
    browser.call("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    let colours =
        "[...new Set([...document.querySelectorAll('*')].map((one) => getComputedStyle(one).color))]";
    assert_eq!(browser.value(colours), json!(["rgb(0, 0, 0)", "rgb(51, 51, 51)"]));
    let cut = "[...document.querySelectorAll('code')].filter((one) => one.getBoundingClientRect().right > innerWidth).length";
    assert_eq!(browser.value(cut), 0);
    let printed = browser.call("Page.printToPDF", json!({ "preferCSSPageSize": true }));
    let pdf = STANDARD.decode(printed["data"].as_str().unwrap()).unwrap();
    assert!(pages(&pdf) > 2, "{} pages", pages(&pdf));
}
