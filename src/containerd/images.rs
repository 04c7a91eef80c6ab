//! Image records: a name, and the descriptor that it stands for.
//!
//! Source: containerd, `core/metadata/images.go`.

use prost_types::FieldMask;
use tonic::transport::Channel;

use super::api::images::images_client::ImagesClient;
use super::api::images::{CreateImageRequest, GetImageRequest, Image, ListImagesRequest, UpdateImageRequest};
use super::api::types;
use super::client::{Client, MAX_MESSAGE};
use super::labels::{self, Labels};
use crate::error::Result;
use crate::oci::Descriptor;

/// The image records of a namespace.
pub struct Images<'c> {
    client: &'c Client,
}

impl<'c> Images<'c> {
    /// The records of this client's namespace.
    pub fn new(client: &'c Client) -> Images<'c> {
        Images { client }
    }

    fn stub(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.client.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// All records.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut stub = self.stub();
        let request = self.client.request(ListImagesRequest::default());
        Ok(self.client.wait("list images", stub.list(request))?.images)
    }

    /// The record of this name, if there is one.
    ///
    /// # Errors
    ///
    /// If containerd cannot be asked.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        let mut stub = self.stub();
        let request = self.client.request(GetImageRequest { name: name.into() });
        let found = self.client.find("look for an image", stub.get(request))?;
        Ok(found.and_then(|found| found.image))
    }

    /// Gives a name to a manifest or index, and adds labels to the record. Its other labels stay. Returns whether that
    /// changed anything.
    ///
    /// # Errors
    ///
    /// If containerd refuses the name.
    pub fn set(&self, name: &str, target: &Descriptor, labels: &Labels) -> Result<bool> {
        let image = Image {
            name: name.into(),
            labels: labels.clone(),
            target: Some(wire(target)),
        };
        let action = format!("name {name}");
        let known = self.find(name)?;
        if let Some(known) = &known
            && known.target == image.target
            && labels::missing(labels.clone(), &known.labels).is_empty()
        {
            return Ok(false);
        }
        if known.is_none() {
            let mut stub = self.stub();
            let request = self.client.request(CreateImageRequest {
                image: Some(image.clone()),
            });
            if self.client.create(&action, stub.create(request))? {
                return Ok(true);
            }
        }
        // It exists, or another client was faster.
        let labels = labels.keys().map(|key| format!("labels.{key}"));
        let paths = std::iter::once("target".to_string()).chain(labels).collect();
        let mut stub = self.stub();
        let request = self.client.request(UpdateImageRequest {
            image: Some(image),
            update_mask: Some(FieldMask { paths }),
        });
        self.client.change(&action, stub.update(request))?;
        Ok(true)
    }
}

/// A descriptor as containerd's API has it.
pub(super) fn wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.to_string(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: std::collections::HashMap::new(),
    }
}
