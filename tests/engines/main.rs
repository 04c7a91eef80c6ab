//! Real engines and a real registry.
//!
//! ```text
//! fleet.rs     the commands of docs/fleet.md: many hosts, in namespaces
//! further_digests.rs   several digests of one tag: selected and renamed together
//! containerd/  what a containerd has, and the container runtime interface
//! harness.rs   tests of the tests' own images, registries and daemons, which leave nothing behind
//! harness_containerd.rs   tests of the tests' own containerds
//! command.rs   the command as a user runs it
//! classic_store.rs   layers and manifests read from Docker's files, while it runs and after
//! examples.rs  the examples of the help texts that need an engine
//! index_choice.rs   indexes with several images for one platform
//! index_platforms.rs   indexes that name no platforms, or others than the configs
//! layers.rs    layers that are no tar: what a verification calls bad, engines refuse
//! load.rs      loading into Docker, compared with a Docker that pulled
//! several.rs   one load into Docker and containerd
//! stopped_store.rs   names and digests written into the store of a stopped Docker
//! image_ids.rs what `list` says that Docker will show as IMAGE ID
//! load_containerd.rs   loading into containerd, compared with a containerd whose kubelet pulled
//! load_containerd_faults.rs   loads into containerd that go wrong
//! load_containerd_killed.rs   loads into containerd during which sealift or containerd is killed or stopped
//! load_again.rs   loading images that the engine already has
//! load_faults.rs   loads that go wrong
//! attach_offline.rs   attaching digests while the engine is stopped
//! load_space.rs   loads for which the engine's disk is too small
//! load_uncompressed.rs   layers that are only uncompressed, and substitute manifests
//! load_attach.rs   attaching digests: that nothing is left, and what prevents it
//! attach_hosts.rs  attaching digests of names outside docker.io
//! attach_stock.rs  attaching digests on hosts with an administrator's history
//! attach_hostile.rs  attaching digests beside another user who poses as the engine or exchanges its files
//! load_killed.rs   attaching digests, killed at every step, and the repair
//! load_registry.rs   pushing into a registry, and pulling again
//! load_registry_broken.rs   pushes that are killed, and connections that break
//! load_registry_crane.rs   pushing into another registry than distribution
//! load_podman.rs   loading into podman, compared with a podman that pulled
//! loading.rs   shared by the tests of loads
//! migrate.rs   the commands of docs/migrate.md: from Docker's classic store to its containerd store
//! nameless.rs  images without a name
//! names.rs     what two hosts show after any sequence of pulls, tags, pushes and removals
//! offline_killed.rs   attaching while the engine is stopped, killed at every step
//! hops.rs      from host to host, each saved from the one before
//! platforms.rs  which platform's image is loaded, and what becomes of artifacts
//! plugin.rs    `docker sealift` by the clients of Docker 20.10 and 28
//! podman_crio.rs   loads into CRI-O's storage
//! podman_faults.rs   loads into podman that go wrong
//! podman_killed.rs   loads into podman that are killed, or ended by a signal
//! podman_replaced.rs   images in podman that show a wrong digest, and are replaced
//! podman_served.rs   what other users get from the registry that podman pulls from during a load
//! push_digest.rs   pushing from the classic store after a load
//! offline_systemd.rs   attaching while the engine is stopped, where systemd stops and starts it
//! recovered.rs  images built on a base with layers of unknown encoders, the registry gone
//! right_digests.rs  a tag gets its own digest, and only proven digests are called proven
//! save_containerd.rs   images from containerd
//! save_docker.rs   images from Docker: built and pushed, or pulled, after the registry is gone
//! save_docker_unknown.rs   layers of unknown encoders, images that were never pushed
//! save_docker_store.rs   the containerd store, and either store without root
//! save_docker_auto.rs   which source is chosen, and what a save requests and leaves
//! save_docker_proof.rs   images without a digest, where a registry has one
//! save_docker_files.rs   archives of docker save, podman and skopeo as sources
//! save_podman.rs   images from podman: pulled, loaded and built, after the registry is gone
//! save_podman_stores.rs   the same from CRI-O's storage, without podman, with vfs, and beside a pull; made manifests
//! saving.rs    shared by the tests of saves
//! signatures/  signatures, attestations and SBOMs as cosign, notation, oras, skopeo and podman write and check them
//! serve.rs     clients that pull from archives that are served
//! updates.rs   archives that bring only what a host lacks, by its inventory
//! written_anew.rs  archives for which podman, buildah or skopeo wrote a new manifest
//! other_tools.rs   skopeo, podman, ctr and a plain docker load read archives of sealift
//! ```
//!
//! Docker 26 and containerd 1.7 are tested with the feature `test-all` only, as `make test-all` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure here is a failed test

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the tests of the encoder use all of it")]
#[path = "../goflate/go.rs"]
mod go;

mod attach_hostile;
mod attach_hosts;
mod attach_offline;
mod attach_stock;
mod classic_store;
mod command;
mod containerd;
mod examples;
mod fleet;
mod further_digests;
mod harness;
mod harness_containerd;
mod hops;
mod image_ids;
mod index_choice;
mod index_platforms;
mod inventories;
mod layers;
mod load;
mod load_again;
mod load_attach;
mod load_containerd;
mod load_containerd_faults;
mod load_containerd_killed;
mod load_faults;
mod load_killed;
mod load_podman;
mod load_registry;
mod load_registry_broken;
mod load_registry_crane;
mod load_space;
mod load_uncompressed;
mod loading;
mod migrate;
mod nameless;
mod names;
mod offline_killed;
mod offline_systemd;
mod other_tools;
mod platforms;
mod plugin;
mod podman_crio;
mod podman_faults;
mod podman_killed;
mod podman_replaced;
mod podman_served;
mod push_digest;
mod recovered;
mod repair;
mod right_digests;
mod save_containerd;
mod save_docker;
mod save_docker_auto;
mod save_docker_files;
mod save_docker_proof;
mod save_docker_store;
mod save_docker_unknown;
mod save_podman;
mod save_podman_stores;
mod saving;
mod serve;
mod several;
mod signatures;
mod stopped_store;
mod updates;
mod written_anew;
