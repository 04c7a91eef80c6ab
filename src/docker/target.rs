//! Loading into Docker: content without names first, then a check, then the names one by one, then the
//! digests.

use std::io::Read;

use super::Docker;
use super::api::encode;
use super::api::info::Store;
use super::attach::{self, Wanted};
use super::content::{self, Accepts, ImageToLoad};
use super::inventory::{self, Details, Inventory};
use super::plan;
use super::push;
use super::store;
use super::store::manifests::LockedManifests;
use crate::archive::view::View;
use crate::docker::api::images::{self, Known, find_image};
use crate::docker::upload;
use crate::error::{Error, Remedy, Result};
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::load::substitute::has_name;
use crate::load::{
    Candidates, DigestStatus, Evidence, KnownImage, LoadOptions, Loaded, MergedBlobs, Obstacle, Plan, Report,
    Target, UploadBlob,
};
use crate::oci::{Digest, Reference};
use crate::progress::Progress;

impl Target for Docker {
    type Details = Details;

    fn probe(&self, wanted: &Candidates<'_>, _: &LoadOptions) -> Result<Inventory> {
        inventory::probe(&self.client, &self.strategies, Some(wanted))
    }

    fn plan(
        &self,
        candidates: &Candidates<'_>,
        options: &LoadOptions,
        inventory: &Inventory,
    ) -> Result<Plan> {
        plan::plan(candidates, options, self.rules, inventory, &self.strategies)
    }

    fn apply(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        self.repair(progress)?;
        let accepts = Accepts::ask(&self.client)?;
        let load = Load {
            docker: self,
            candidates,
            accepts,
            progress,
            interrupt,
        };
        let mut report = Report::new(plan);
        let mut images = ImageToLoad::all(&plan.images, candidates)?;
        report.sent = load.deliver(plan, &mut images)?;
        for image in &images {
            interrupt.check()?;
            report.sent += load.name(image)?;
        }
        load.attach(&mut images)?;
        load.keep_manifests(&images);
        self.tidy();
        load.remember(&mut images);
        let now = images::names(&self.client, load.accepts.store)?;
        let now = Known::of(&now);
        for image in images {
            report.images.push(load.ask(image, &now)?);
        }
        Ok(report)
    }
}

/// A load in progress.
struct Load<'l, 'a> {
    docker: &'l Docker,
    candidates: &'l Candidates<'a>,
    accepts: Accepts,
    progress: &'l dyn Progress,
    interrupt: &'l Interrupt,
}

impl Load<'_, '_> {
    /// Sends what is missing, and checks that all content is there and right. Returns the bytes of the streams;
    /// those of the blobs are added to each image's.
    ///
    /// Layers that the engine reported may be gone by now. In the containerd store they may be unpacked from
    /// other blobs: compressed differently, or pulled for an image that shares them. An image that is then
    /// incomplete is sent again with all of its layers.
    fn deliver(&self, plan: &Plan, images: &mut [ImageToLoad<'_, '_>]) -> Result<u64> {
        if are_present(images) {
            return Ok(0);
        }
        let is_partial = content::upload(images, &self.accepts)?.len() > plan.send.len();
        let first = self.ship(images, &plan.send);
        let mut total = match first {
            Err(Error::Engine { .. }) if is_partial => 0,
            other => other?,
        };
        self.check(images)?;
        if is_partial && !are_present(images) {
            self.progress
                .note("the engine has some of the layers in another compression only; sending them as well");
            let upload = content::upload(images, &self.accepts)?;
            total += self.ship(images, &upload)?;
            self.check(images)?;
        }
        if are_present(images) {
            return Ok(total);
        }
        let missing = images.iter().filter(|image| !image.is_present);
        let names: Vec<String> = missing.map(|image| image.planned.name.familiar()).collect();
        Err(self.docker.client.error(
            "load",
            &format!(
                "the engine accepted {} but does not have all of it",
                names.join(", ")
            ),
            Some("see its log (journalctl -u docker); nothing was named".into()),
        ))
    }

    fn ship(&self, images: &mut [ImageToLoad<'_, '_>], upload: &[UploadBlob]) -> Result<u64> {
        let view = upload::content(images, upload, &self.accepts)?;
        self.progress.phase("sending", Some(view.size()));
        self.load("load", &view, upload)?;
        for piece in upload {
            if let Some(image) = images.get_mut(piece.image) {
                image.sent += piece.size;
            }
        }
        Ok(view.size())
    }

    fn load(&self, action: &str, view: &View, upload: &[UploadBlob]) -> Result<()> {
        let blobs = MergedBlobs::new(self.candidates);
        let mut stream = Watched {
            stream: view.open(&blobs),
            upload: upload.iter(),
            is_upload: !upload.is_empty(),
            now: None,
            progress: self.progress,
            interrupt: self.interrupt,
        };
        self.docker
            .client
            .post_tar(action, "/images/load?quiet=1", &mut stream, &mut |_| {})
    }

    /// Checks which of the sent images the engine has as they should be.
    fn check(&self, images: &mut [ImageToLoad<'_, '_>]) -> Result<()> {
        let client = &self.docker.client;
        let content = match self.accepts.store {
            store if images::tells_content(client, store) => Some(images::list(client, store)?),
            _ => None,
        };
        let content = content.as_deref().map(Known::of);
        for to_load in images.iter_mut().filter(|image| !image.is_present) {
            let ImageToLoad { planned, image, .. } = to_load;
            to_load.is_present = match (self.accepts.store, &content) {
                (Store::Classic, _) => {
                    let inspected = find_image(client, &image.id().to_string())?;
                    let expected = image.config.as_ref().map(|config| &config.diff_ids);
                    inspected.map(|inspected| inspected.diff_ids()).as_ref() == expected
                }
                (Store::Containerd, Some(content)) => {
                    let known = content.get(&planned.root);
                    known.is_some_and(|known| known.has(image)) || self.unpacks(planned.root, image)?
                }
                (Store::Containerd, None) => self.unpacks(planned.root, image)?,
            };
        }
        Ok(())
    }

    /// Whether a container can be created from an image, which makes the containerd store unpack it. The
    /// container is never started, and is removed.
    fn unpacks(&self, root: Digest, image: &Image) -> Result<bool> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let client = &self.docker.client;
        let body = serde_json::json!({ "Image": root.to_string(), "Cmd": ["none"], "NetworkDisabled": true });
        // Without a platform the engine would use its own, if the image has that too.
        let platform = image
            .offered()
            .map(|platform| format!("?platform={}", encode(&platform.to_string())));
        let path = format!("/containers/create{}", platform.unwrap_or_default());
        let Ok(answer) = client.post("try the image", &path, Some(&body)) else {
            return Ok(false);
        };
        if let Ok(created) = serde_json::from_slice::<Created>(&answer) {
            client.delete(
                "remove the trial",
                &format!("/containers/{}?force=1&v=1", encode(&created.id)),
            )?;
        }
        if !images::tells_content(client, self.accepts.store) {
            return Ok(true);
        }
        let content = images::list(client, self.accepts.store)?;
        Ok(Known::of(&content)
            .get(&root)
            .is_some_and(|known| known.has(image)))
    }

    /// Sets an image's name. Returns the bytes of the stream for it.
    fn name(&self, to_load: &ImageToLoad<'_, '_>) -> Result<u64> {
        let planned = to_load.planned;
        if planned.tagged {
            return Ok(0);
        }
        let client = &self.docker.client;
        match (self.accepts.store, &planned.tag) {
            // Only the digest, which is attached.
            (Store::Classic, None) => Ok(0),
            (Store::Classic, Some(tag)) => {
                let view = upload::classic_name(to_load, tag, &self.accepts)?;
                self.load(&format!("name {tag}"), &view, &[])?;
                Ok(view.size())
            }
            (Store::Containerd, Some(tag)) => {
                let path = format!(
                    "/images/{}/tag?repo={}&tag={}",
                    planned.root,
                    encode(tag.repository().full()),
                    encode(tag.tag().unwrap_or_default())
                );
                client.post(&format!("name {tag}"), &path, None).map(|_| 0)
            }
            (Store::Containerd, None) => {
                let name = Reference::digested(planned.name.repository(), planned.root);
                let view = upload::containerd_name(&to_load.candidate.image.graph.root, &name)?;
                self.load(&format!("name {name}"), &view, &[])?;
                self.forget_nameless(planned.root)?;
                Ok(view.size())
            }
        }
    }

    /// Removes the record that protects an image without a name from garbage collection. `/tag` does that
    /// itself.
    fn forget_nameless(&self, digest: Digest) -> Result<()> {
        let name = format!("moby-dangling@{digest}");
        let client = &self.docker.client;
        if find_image(client, &name)?.is_some() {
            client.delete(
                "remove the nameless record",
                &format!("/images/{}?noprune=1", encode(&name)),
            )?;
        }
        Ok(())
    }

    /// Attaches the planned digests, and notes the obstacles for each image.
    fn attach(&self, images: &mut [ImageToLoad<'_, '_>]) -> Result<()> {
        for strategy in &self.docker.strategies {
            let digest_status = DigestStatus::ViaAttach {
                method: strategy.method(),
            };
            let mut wanted: Vec<Wanted<'_>> = Vec::new();
            // For each image the position of its digest: several tags of one repository share it.
            let mut places = Vec::new();
            for (at, image) in images.iter().enumerate() {
                let Some(one) = wanted_of(image).filter(|_| image.planned.digest_status == digest_status)
                else {
                    continue;
                };
                let known = wanted.iter().position(|known| known.is_same(&one));
                places.push((at, known.unwrap_or(wanted.len())));
                if known.is_none() {
                    wanted.push(one);
                }
            }
            if wanted.is_empty() {
                continue;
            }
            self.progress.phase("attaching", None);
            let outcomes = strategy.apply(&self.docker.client, &wanted, self.progress, self.interrupt)?;
            for (at, place) in places {
                if let (Some(image), Some(Err(obstacle))) = (images.get_mut(at), outcomes.get(place)) {
                    image.obstacles.push(obstacle.clone());
                }
            }
        }
        Ok(())
    }

    /// Keeps the manifests of digests that a classic store shows without having them: one may have been
    /// attached before there was a manifest.
    fn keep_manifests(&self, images: &[ImageToLoad<'_, '_>]) {
        let shown = images.iter().filter_map(|to_load| {
            let ImageToLoad {
                planned,
                candidate,
                image,
                ..
            } = to_load;
            let is_shown =
                planned.digest_status == DigestStatus::Present && planned.evidence == Evidence::Verified;
            Some((
                planned.digest.filter(|_| is_shown)?,
                &candidate.image.graph,
                *image,
            ))
        });
        let mut shown: Vec<_> = shown.collect();
        if self.accepts.store != Store::Classic || shown.is_empty() {
            return;
        }
        let client = &self.docker.client;
        let (Ok(files), Ok(content)) = (store::files_of(client), store::content_of(client)) else {
            return;
        };
        let is_there = |digest: &Digest| matches!(content.metadata(digest), Ok(Some(_)));
        shown.retain(|(digest, _, image)| !is_there(digest) || !is_there(&image.descriptor.digest));
        if shown.is_empty() {
            return;
        }
        let images = shown
            .iter()
            .map(|(digest, graph, image)| (*digest, &***graph, image.id()));
        if let Some(kept) = LockedManifests::keep_all(&files, images, self.progress) {
            kept.named(&files, self.progress);
        }
    }

    /// Reports what the engine shows for an image according to `now`, the list of its images, or asks for the
    /// image if that is not enough.
    fn ask(&self, to_load: ImageToLoad<'_, '_>, now: &Known<'_>) -> Result<Loaded> {
        let planned = to_load.planned;
        let id = self.id(&to_load);
        let known = now.get(&id);
        let mut loaded = Loaded {
            obstacles: to_load.obstacles,
            sent: to_load.sent,
            ..Loaded::planned(planned)
        };
        loaded.details.push = to_load.push;
        if let Some(pinned) = planned.pinned() {
            let is_shown = self.shows(id, known, &pinned)?;
            match is_shown {
                true => loaded.obstacles.clear(),
                false if loaded.details.declined && planned.tag.is_none() => {
                    loaded.obstacles.push(Obstacle::new(
                        "it has no tag, so nothing names it without its digest",
                        Remedy::Rename(planned.name.familiar()),
                    ))
                }
                false if loaded.obstacles.is_empty() && !loaded.details.declined => {
                    let reason = format!("the engine does not show {pinned}");
                    loaded.obstacles.push(Obstacle::new(reason, ""));
                }
                false => {}
            }
            loaded.shown = Some(is_shown);
        }
        if let Some(tag) = &planned.tag
            && !self.shows(id, known, tag)?
        {
            loaded.obstacles.push(Obstacle::new(
                format!("{tag} names another image now"),
                "another program has set it in the meantime; run this again",
            ));
        }
        Ok(loaded)
    }

    /// The id of an image in the engine's store.
    fn id(&self, to_load: &ImageToLoad<'_, '_>) -> Digest {
        match self.accepts.store {
            Store::Classic => to_load.image.id(),
            Store::Containerd => to_load.planned.root,
        }
    }

    /// Whether the engine shows the image with this id under a name.
    fn shows(&self, id: Digest, known: Option<&KnownImage>, name: &Reference) -> Result<bool> {
        let is_among = |known: &KnownImage| has_name(&known.tags, name) || has_name(&known.digests, name);
        if known.is_some_and(is_among) {
            return Ok(true);
        }
        let found = find_image(&self.docker.client, &name.familiar())?;
        Ok(found.is_some_and(|found| {
            let digests = found.repo_digests.as_deref().unwrap_or_default();
            found.id.parse::<Digest>() == Ok(id) && (name.digest().is_none() || has_name(digests, name))
        }))
    }

    /// Records where the images' layers are, with `keep_push_digest`, and notes what changes a digest in a push
    /// all the same.
    fn remember(&self, images: &mut [ImageToLoad<'_, '_>]) {
        if !self.docker.keep_push_digest {
            return;
        }
        let is_classic = self.accepts.store == Store::Classic;
        let files = is_classic.then(|| store::files_of(&self.docker.client));
        for image in images {
            let files = files
                .as_ref()
                .map(|files| files.as_ref().map_err(Obstacle::clone));
            image.push = push::obstacles(image, files);
        }
    }
}

/// Whether the engine has all of the content.
fn are_present(images: &[ImageToLoad<'_, '_>]) -> bool {
    images.iter().all(|image| image.is_present)
}

/// The digest to attach to an image, if it has one.
fn wanted_of<'l>(to_load: &ImageToLoad<'l, '_>) -> Option<Wanted<'l>> {
    let ImageToLoad {
        planned,
        candidate,
        image,
        ..
    } = to_load;
    let is_indexed = !candidate.image.graph.indexes.is_empty();
    Some(attach::Wanted {
        platform: image.descriptor.platform.as_ref().filter(|_| is_indexed),
        repository: planned.name.repository().clone(),
        digest: planned.digest?,
        image_id: image.id(),
        graph: &candidate.image.graph,
    })
}

/// Reports the progress of a stream's blobs, and ends the stream when the run is interrupted.
struct Watched<'w, R> {
    stream: R,
    upload: std::slice::Iter<'w, UploadBlob>,
    /// Whether its end is still to be reported: the engine continues without reading.
    is_upload: bool,
    now: Option<(Digest, u64)>,
    progress: &'w dyn Progress,
    interrupt: &'w Interrupt,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.interrupt.check().map_err(std::io::Error::other)?;
        let count = self.stream.read(buffer)?;
        if count == 0 && std::mem::take(&mut self.is_upload) {
            self.progress.phase("loading in the engine", None);
        }
        self.tell(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

impl<R> Watched<'_, R> {
    /// The framing around blobs is counted with them: it is small, and a progress bar need not be exact.
    fn tell(&mut self, mut bytes: u64) {
        while bytes > 0 {
            let Some((digest, left)) = self.now.take().or_else(|| {
                let piece = self.upload.next()?;
                self.progress.blob_started(&piece.digest, piece.size, 0);
                Some((piece.digest, piece.size))
            }) else {
                return;
            };
            let step = bytes.min(left);
            self.progress.blob_advanced(&digest, step);
            bytes -= step;
            if left > step {
                self.now = Some((digest, left - step));
            } else {
                self.progress.blob_finished(&digest);
            }
        }
    }
}
