//! The registry in which the tools sign the images of all cases, once for all tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::cases::{CASES, Case};
use crate::support::{Built, Folder, Image, Registry, Tools, image, run};

/// The registry whose images these are, by their names.
pub const ORIGIN: &str = "registry.example.test";

/// Of containers' registries.d: signatures are in the registry.
pub const ATTACHMENTS: &str = "default-docker: { use-sigstore-attachments: true }\n";

/// Who signs with cosign.
#[derive(Debug, Clone, Copy)]
pub enum Signer {
    /// The one whose key the policies have.
    Alice,
    /// Another.
    Mallory,
}

impl Signer {
    /// The private key, as the tools see it.
    fn key(self) -> &'static str {
        match self {
            Self::Alice => "/sealift/keys/alice.key",
            Self::Mallory => "/sealift/keys/mallory.key",
        }
    }
}

/// Everything that is signed.
#[derive(Debug)]
pub struct Signed {
    pub tools: Tools,
    pub registry: Registry,
    images: BTreeMap<&'static str, Built>,
}

/// The repository of one case while it is signed.
pub struct Repository<'a> {
    signed: &'a Signed,
    name: &'static str,
    image: &'a Built,
}

impl Signed {
    /// What the tools signed, the first time also signs it.
    pub fn get() -> &'static Self {
        static SIGNED: OnceLock<Signed> = OnceLock::new();
        SIGNED.get_or_init(Self::new)
    }

    fn new() -> Self {
        let tools = Tools::new(Folder::shared());
        let registry = Registry::options().shared().start();
        let layout = tools.outside("layout");
        make_keys(&tools);
        let images = CASES.iter().map(|case| (case.name, built(case.image, &layout)));
        let signed = Self {
            images: images.collect(),
            tools,
            registry,
        };
        for wave in [false, true] {
            let cases: Vec<_> = CASES.iter().filter(|case| case.derived == wave).collect();
            side_by_side(&cases, |case| signed.sign(case));
        }
        signed
    }

    fn sign(&self, case: &Case) {
        let image = self.image(case.name);
        self.registry.push(image, &format!("acme/{}:1.0", case.name));
        (case.sign)(&Repository {
            signed: self,
            name: case.name,
            image,
        });
    }

    /// The image of a case, as it was signed.
    pub fn image(&self, case: &str) -> &Built {
        &self.images[case]
    }

    /// The name of an image at its origin.
    pub fn name(&self, case: &str) -> String {
        format!("{ORIGIN}/acme/{case}:1.0")
    }

    /// The document of an attestation of this kind, as the tools see it.
    fn predicate(kind: &str) -> &'static str {
        match kind {
            "slsaprovenance1" => "/sealift/slsa.json",
            "cyclonedx" => "/sealift/cyclonedx.json",
            _ => "/sealift/spdx.json",
        }
    }
}

/// A small image with attestations of buildkit's kind, another one for each name.
fn built(name: &str, layout: &Path) -> Built {
    let image = Image {
        attestations: true,
        ..Image::small(name)
    };
    image.build(&layout.join(name), "1.0")
}

/// Does something with several items at once, in threads that mostly wait for processes.
pub fn side_by_side<T: Sync>(items: &[T], what: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            what(item);
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
}

/// Keys for cosign, certificates and a trust policy for notation, and what is attested.
fn make_keys(tools: &Tools) {
    tools.write("keys/README", "of a test");
    side_by_side(&["alice", "mallory"], |name| {
        let prefix = format!("/sealift/keys/{name}");
        tools
            .run("cosign", &["generate-key-pair", "--output-key-prefix", &prefix])
            .ok();
    });
    let script = r#"
        exec 2>&1
        curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        root() { # NAME
            openssl req -x509 $curve -days 30 -subj "/C=DE/ST=HE/O=Acme/CN=Acme Root" -keyout "$1.key" -out "$1.crt" \
                -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        }
        leaf() { # NAME ROOT CN
            openssl req $curve -subj "/C=DE/ST=HE/O=Acme/CN=$3" -keyout "$1.key" -out "$1.csr"
            openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 30 \
                -extfile extensions -out "$1.crt"
            cat "$2.crt" >>"$1.crt"
        }
        printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
            extendedKeyUsage=codeSigning >extensions
        root acme
        root other
        leaf release acme "Acme Release"
        leaf intern acme "Acme Intern"
        leaf stranger other "Acme Release"
    "#;
    let folder = tools.outside("pki");
    fs::create_dir(&folder).unwrap();
    run(Command::new("bash").args(["-euc", script]).current_dir(&folder)).ok();
    let key = |name: &str| {
        json!({
            "name": name,
            "keyPath": tools.inside(&format!("pki/{name}.key")),
            "certPath": tools.inside(&format!("pki/{name}.crt")),
        })
    };
    let keys = json!({ "keys": (["release", "intern", "stranger"].map(key)) });
    let policy = json!({
        "version": "1.0",
        "trustPolicies": [{
            "name": "acme",
            "registryScopes": ["*"],
            "signatureVerification": { "level": "strict" },
            "trustStores": ["ca:acme"],
            "trustedIdentities": ["x509.subject: C=DE, ST=HE, O=Acme, CN=Acme Release"],
        }],
    });
    let root = fs::read(folder.join("acme.crt")).unwrap();
    for (name, bytes) in [
        ("signingkeys.json", keys.to_string().into_bytes()),
        ("trustpolicy.json", policy.to_string().into_bytes()),
        ("truststore/x509/ca/acme/acme.crt", root),
    ] {
        tools.write(&format!(".config/notation/{name}"), bytes);
    }
    let slsa = json!({
        "buildDefinition": {
            "buildType": "https://example.test/build/v1",
            "externalParameters": {},
            "internalParameters": {},
            "resolvedDependencies": [],
        },
        "runDetails": { "builder": { "id": "https://ci.example.test/builder" }, "metadata": {} },
    });
    let spdx = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "acme",
        "documentNamespace": "https://example.test/spdx/acme",
        "creationInfo": { "created": "2026-01-01T00:00:00Z", "creators": ["Tool: a-test"] },
        "packages": [],
    });
    let cyclonedx = json!({ "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [] });
    tools.write("slsa.json", slsa.to_string());
    tools.write("spdx.json", spdx.to_string());
    tools.write("cyclonedx.json", cyclonedx.to_string());
    tools.write("passphrase", "");
    tools.write(".config/containers/registries.d/default.yaml", ATTACHMENTS);
}

/// What makes cosign sign without a network.
const OFFLINE: [&str; 3] = ["--yes", "--use-signing-config=false", "--tlog-upload=false"];

impl Repository<'_> {
    /// The index, by its digest.
    pub fn index(&self) -> String {
        self.at(&self.image.digest)
    }

    /// The image of each platform, by its digest.
    pub fn platforms(&self) -> impl Iterator<Item = String> {
        self.image
            .manifests
            .iter()
            .map(|manifest| self.at(&manifest.digest))
    }

    fn at(&self, digest: &str) -> String {
        format!("{}@{digest}", self.address())
    }

    fn address(&self) -> String {
        self.of(self.name)
    }

    fn of(&self, case: &str) -> String {
        format!("{}/acme/{case}", self.signed.registry.address())
    }

    fn run(&self, program: &str, args: &[&str], more: &[&str]) {
        self.signed.tools.run(program, &[args, more].concat()).ok();
    }

    /// Signs as a bundle.
    pub fn cosign(&self, signer: Signer, reference: &str, more: &[&str]) {
        let sign = [&["sign", "--key", signer.key()][..], &OFFLINE].concat();
        self.run("cosign", &sign, &[more, &[reference]].concat());
    }

    /// Signs in the old format.
    pub fn cosign_old(&self, signer: Signer, reference: &str, more: &[&str]) {
        let name = self.signed.name(self.name);
        let old = ["--new-bundle-format=false", "--sign-container-identity", &name];
        self.cosign(signer, reference, &[&old[..], more].concat());
    }

    /// Signs in the old format, for an image of another name.
    pub fn sign_as(&self, name: &str, reference: &str) {
        let old = [
            "--recursive",
            "--new-bundle-format=false",
            "--sign-container-identity",
            name,
        ];
        self.cosign(Signer::Alice, reference, &old);
    }

    /// Pushes the image again with skopeo, which signs it in the old format.
    pub fn skopeo(&self) {
        let layout = self.signed.tools.inside(&format!("layout/{}", self.name));
        self.run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ],
            &[
                "--sign-by-sigstore-private-key",
                Signer::Alice.key(),
                "--sign-passphrase-file",
                "/sealift/passphrase",
                "--sign-identity",
                &self.signed.name(self.name),
                &format!("oci:{layout}:1.0"),
                &format!("docker://{}:1.0", self.address()),
            ],
        );
    }

    /// Attests a document of this kind.
    pub fn attest(&self, kind: &str, reference: &str, more: &[&str]) {
        let attest = [&["attest", "--key", Signer::Alice.key()][..], &OFFLINE].concat();
        let document = ["--type", kind, "--predicate", Signed::predicate(kind), reference];
        self.run("cosign", &attest, &[more, &document].concat());
    }

    /// Attaches an SBOM as cosign did before attestations.
    pub fn attach_sbom(&self, reference: &str) {
        let attach = ["attach", "sbom", "--type", "spdx", "--input-format", "json"];
        self.run("cosign", &attach, &["--sbom", "/sealift/spdx.json", reference]);
    }

    /// Attaches an SBOM with oras, and gives the digest of what refers to the image.
    pub fn oras_attach(&self, reference: &str) -> String {
        let attach = [
            "attach",
            "--plain-http",
            "--disable-path-validation",
            "--artifact-type",
            "application/spdx+json",
            "--format",
            "json",
            reference,
            "/sealift/spdx.json:application/spdx+json",
        ];
        let said = self.signed.tools.run("oras", &attach).ok().json();
        said["digest"].as_str().unwrap().to_owned()
    }

    /// Signs with notation.
    pub fn notation(&self, key: &str, more: &[&str]) {
        let sign = ["sign", "--insecure-registry", "--key", key];
        self.run("notation", &sign, &[more, &[&self.index()]].concat());
    }

    /// All kinds that there are, on the index, the platforms and on a referrer.
    pub fn everything(&self) {
        let index = self.index();
        self.cosign(Signer::Alice, &index, &["--recursive"]);
        self.cosign_old(Signer::Alice, &index, &["--recursive"]);
        self.attest("slsaprovenance1", &index, &[]);
        self.notation("release", &["--signature-format", "jws"]);
        self.notation("release", &["--signature-format", "cose"]);
        for platform in self.platforms() {
            self.attest("cyclonedx", &platform, &[]);
            self.attach_sbom(&platform);
        }
        self.attest("spdxjson", &index, &["--new-bundle-format=false"]);
        let sbom = self.oras_attach(&index);
        self.cosign(Signer::Alice, &self.at(&sbom), &[]);
    }

    /// Signs the image and then gives its tag to another one.
    pub fn retagged(&self) {
        self.cosign_old(Signer::Alice, &self.index(), &["--recursive"]);
        self.cosign(Signer::Alice, &self.index(), &[]);
        let another = built("another", &self.signed.tools.outside("layout"));
        self.signed
            .registry
            .push(&another, &format!("acme/{}:1.0", self.name));
    }

    /// Puts the signatures of another image's index and platforms where those of this one belong.
    pub fn moved_old(&self, from: &str) {
        for (theirs, ours) in self.pairs(from) {
            let tag = |digest: &str| digest.replace(':', "-") + ".sig";
            let place = |case: &str, digest: &str| format!("{}:{}", self.of(case), tag(digest));
            self.run(
                "crane",
                &["copy", &place(from, &theirs)],
                &[&place(self.name, &ours)],
            );
        }
    }

    /// Attaches the referrers of another image's index to this one's.
    pub fn moved_referrers(&self, from: &str) {
        let subject = json!({
            "mediaType": self.image.media_type, "digest": self.image.digest, "size": self.image.size,
        });
        for mut manifest in self.referrers(from) {
            manifest["subject"] = subject.clone();
            self.copy_blobs(&manifest);
            self.put(&manifest);
        }
    }

    /// Changes the payloads of another repository's signatures of the same image.
    pub fn tampered_old(&self, from: &str) {
        let tag = self.image.digest.replace(':', "-") + ".sig";
        let mut manifest = self.manifest(&format!("{}:{tag}", self.of(from)));
        self.copy_blobs(&manifest);
        for layer in manifest["layers"].as_array_mut().unwrap() {
            let payload = self.blob(layer["digest"].as_str().unwrap());
            let changed = String::from_utf8(payload).unwrap().replace("prod", "test");
            let digest = self.put_blob(changed.as_bytes());
            assert_ne!(layer["digest"], digest.as_str());
            layer["digest"] = json!(digest);
        }
        self.put_as(&format!("{}:{tag}", self.address()), &manifest);
    }

    /// Changes what the bundles of another repository say of the same image.
    pub fn tampered_bundle(&self, from: &str) {
        for mut manifest in self.referrers(from) {
            self.copy_blobs(&manifest);
            let layer = &mut manifest["layers"][0];
            let bundle = self.blob(layer["digest"].as_str().unwrap());
            let mut bundle: Value = serde_json::from_slice(&bundle).unwrap();
            let payload = &mut bundle["dsseEnvelope"]["payload"];
            let statement = BASE64.decode(payload.as_str().unwrap()).unwrap();
            let statement = String::from_utf8(statement).unwrap();
            let changed = statement.replace(r#""annotations":{}"#, r#""annotations":{"a":"b"}"#);
            assert_ne!(statement, changed);
            *payload = json!(BASE64.encode(changed));
            let bytes = bundle.to_string();
            layer["digest"] = json!(self.put_blob(bytes.as_bytes()));
            layer["size"] = json!(bytes.len());
            self.put(&manifest);
        }
    }

    /// The digests of index and platforms of another image, each with that of this one.
    fn pairs(&self, from: &str) -> Vec<(String, String)> {
        let theirs = self.signed.image(from);
        let mut pairs = vec![(theirs.digest.clone(), self.image.digest.clone())];
        for (theirs, ours) in theirs.manifests.iter().zip(&self.image.manifests) {
            pairs.push((theirs.digest.clone(), ours.digest.clone()));
        }
        pairs
    }

    /// The manifests that refer to another case's index.
    fn referrers(&self, from: &str) -> Vec<Value> {
        let index = format!("{}@{}", self.of(from), self.signed.image(from).digest);
        let discover = [
            "discover",
            "--plain-http",
            "--format",
            "json",
            "--depth",
            "1",
            &index,
        ];
        let said = self.signed.tools.run("oras", &discover).ok().json();
        let found: Vec<_> = said["referrers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| self.manifest(one["reference"].as_str().unwrap()))
            .collect();
        assert!(!found.is_empty(), "{said}");
        found
    }

    fn manifest(&self, reference: &str) -> Value {
        let fetch = ["manifest", "fetch", "--plain-http", reference];
        self.signed.tools.run("oras", &fetch).ok().json()
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.signed.registry.blob_path(digest)).unwrap()
    }

    fn copy_blobs(&self, manifest: &Value) {
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            self.put_blob(&self.blob(blob["digest"].as_str().unwrap()));
        }
    }

    fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = image::sha256(bytes);
        let file = self
            .signed
            .tools
            .write(&format!("blobs/{}/{digest}", self.name), bytes);
        self.run(
            "oras",
            &["blob", "push", "--plain-http"],
            &[&self.at(&digest), &file],
        );
        digest
    }

    fn put(&self, manifest: &Value) {
        let digest = image::sha256(manifest.to_string().as_bytes());
        self.put_as(&self.at(&digest), manifest);
    }

    /// Pushes a manifest with oras, which lists it among the referrers of its subject.
    fn put_as(&self, reference: &str, manifest: &Value) {
        let bytes = manifest.to_string();
        let name = format!("blobs/{}/{}", self.name, image::sha256(bytes.as_bytes()));
        let file = self.signed.tools.write(&name, &bytes);
        self.run("oras", &["manifest", "push", "--plain-http"], &[reference, &file]);
    }
}
