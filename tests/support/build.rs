//! Images built by an engine's own `docker build`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::command::run;
use super::{Daemon, Engine, Layer};

impl Layer {
    /// Writes its files into a folder.
    pub fn write_to(&self, folder: &Path) {
        for (path, mode, bytes) in &self.files {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, bytes).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
            let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            File::open(&file).unwrap().set_modified(made).unwrap();
        }
    }
}

impl Daemon {
    /// Builds an image of these layers, each by a COPY of its own, the lowest first.
    #[track_caller]
    pub fn build(&self, tag: &str, layers: &[Layer]) {
        self.build_of(tag, layers.len(), |at, folder| layers[at].write_to(folder));
    }

    /// Builds an image of these layers on top of another one.
    #[track_caller]
    pub fn build_on(&self, base: &str, tag: &str, layers: &[Layer]) {
        self.build_from(base, tag, layers.len(), |at, folder| layers[at].write_to(folder));
    }

    /// Builds an image of as many layers, whose files `fill` puts into a folder for each.
    #[track_caller]
    pub fn build_of(&self, tag: &str, layers: usize, fill: impl Fn(usize, &Path)) {
        self.build_from("scratch", tag, layers, fill);
    }

    #[track_caller]
    fn build_from(&self, base: &str, tag: &str, layers: usize, fill: impl Fn(usize, &Path)) {
        let context = self.data("build");
        let mut dockerfile = format!("FROM {base}\n");
        for at in 0..layers {
            let folder = context.join(at.to_string());
            fs::create_dir_all(&folder).unwrap();
            fill(at, &folder);
            dockerfile += &format!("COPY {at} /\n");
        }
        dockerfile += "ENV PATH=/bin\nCMD [\"/bin/busybox\", \"sh\"]\n";
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let mut command = self.client();
        // Buildkit where it is the engine's own default; the others' clients lack the plugin.
        let buildkit = if self.engine() == Engine::Docker28 {
            "1"
        } else {
            "0"
        };
        command
            .env("DOCKER_BUILDKIT", buildkit)
            .args(["build", "--quiet", "-t", tag]);
        run(command.arg(self.data_inside("build"))).ok();
        fs::remove_dir_all(context).unwrap();
    }

    /// Tags an image, pushes it, and gives the digest that the engine then shows for it.
    #[track_caller]
    pub fn push(&self, image: &str, to: &str) -> String {
        self.docker(&["tag", image, to]).ok();
        self.docker(&["push", "--quiet", to]).ok();
        let shown = self.inspect(to).expect("the image that was pushed");
        let repository = to.rsplit_once(':').expect("repository:tag").0;
        let digests = shown["RepoDigests"].as_array().unwrap().iter();
        let mut digests =
            digests.filter_map(|name| name.as_str()?.strip_prefix(repository)?.strip_prefix('@'));
        digests.next().expect("its digest").to_owned()
    }
}
