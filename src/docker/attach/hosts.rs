//! For a moment the names of registries resolve to this process, which serves only the manifests. The engine
//! has the image, so a pull by digest requests nothing else, and the engine records the digest.
//!
//! No file is changed: another `/etc/hosts` is mounted over the engine's. The engine treats the loopback
//! network as insecure, so it continues with plain HTTP if HTTPS is refused. A name of this host itself
//! (`localhost:5000/app`) needs no entry.
//!
//! Source: moby, `registry/config.go` (`isSecureIndex`) and `registry/service_v2.go`.

mod file;
mod infrastructure;
mod registry_host;
pub mod undo;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use self::registry_host::RegistryHost;
use super::folder::Folder;
use super::{Attach, Disruption, Failed, HostFacts, Outcome, Prepared, Strategy, pull};
use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::hosts::undo::{Step, UndoRecord};
use crate::docker::daemon::network::{Network, try_loopback};
use crate::docker::daemon::overmount::Overmount;
use crate::docker::daemon::process::Process;
use crate::docker::daemon::reach;
use crate::error::{Error, Remedy, Result};
use crate::image::names;
use crate::interrupt::pause;
use crate::load::{AttachMethod, Obstacle};
use crate::oci::Repository;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::serve::{Documents, Server};

const PATH: &str = "/etc/hosts";
/// Go caches `/etc/hosts` for five seconds (`cacheMaxAge` in `net/hosts.go`).
const CACHE: Duration = Duration::from_millis(5300);
/// How long names are redirected, including the pulls: the engine's cache has to expire before and after them.
const SECONDS: u32 = 11;

/// Attaches digests by redirecting the names of registries.
#[derive(Debug)]
pub struct Hosts {
    /// The folder of its journal.
    pub folder: Folder,
}

impl Strategy for Hosts {
    fn method(&self) -> AttachMethod {
        AttachMethod::Hosts
    }

    fn disruption(&self) -> Disruption {
        Disruption::Live
    }

    fn serves(&self, repository: &Repository, facts: &HostFacts) -> Result<bool, Obstacle> {
        if repository.domain() == DEFAULT_DOMAIN {
            return Ok(false);
        }
        let host = RegistryHost::of(repository.domain())?;
        if let Some(network) = &facts.network {
            host.check(network)?;
        }
        Ok(true)
    }

    fn steps(&self, wanted: &[String], facts: &HostFacts) -> Vec<String> {
        let pid = facts
            .pid
            .map(|pid| format!(" that process {pid} sees"))
            .unwrap_or_default();
        let mut names = BTreeSet::new();
        let mut listeners = BTreeSet::new();
        for name in wanted {
            let repository = name
                .split('@')
                .next()
                .and_then(|name| name.parse::<Repository>().ok());
            let Some(host) = repository.and_then(|repository| RegistryHost::of(repository.domain()).ok())
            else {
                continue;
            };
            let address = host
                .loopback
                .map_or_else(|| "a loopback address".into(), |ip| ip.to_string());
            listeners.insert(format!("port {} of {address}", host.port()));
            if host.loopback.is_none() {
                names.insert(host.host);
            }
        }
        let (names, listeners) = (
            Vec::from_iter(names).join(", "),
            Vec::from_iter(listeners).join(", "),
        );
        let mut steps = vec![format!("serve the manifests, by digest only, on {listeners}")];
        if !names.is_empty() {
            steps.push(format!(
                "bind-mount a copy of {PATH} over the {PATH}{pid}, with lines that lead there for {names}"
            ));
            steps.push("wait five seconds, until the engine's cache of it expires".into());
            steps.push(led(&names));
        }
        steps.push(format!(
            "let it pull {}: it asks for manifests only",
            names::first(wanted, 3)
        ));
        if !names.is_empty() {
            steps.push("unmount the copy, and wait five seconds".into());
        }
        steps
    }

    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Prepared>, Vec<Obstacle>> {
        let process = reach::process(client, info)?;
        self.folder.seen_by(&process)?;
        let overmount = process.overmount(PATH.as_ref())?;
        try_loopback(&process).map_err(|error| {
            Obstacle::new(
                format!("no address of the loopback network can be used where dockerd runs: {error}"),
                "is the loopback device up there (ip link set lo up)?",
            )
        })?;
        Ok(Box::new(Preflight { process, overmount }))
    }
}

/// The result of a preflight.
struct Preflight {
    process: Process,
    overmount: Overmount,
}

impl Prepared for Preflight {
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed> {
        let network = Network::look(&Info::ask(attach.client)?, &self.process);
        let hosts: Vec<Result<RegistryHost, Obstacle>> = attach
            .wanted
            .iter()
            .map(|one| {
                let host = RegistryHost::of(one.repository.domain())?;
                host.check(&network).map(|()| host)
            })
            .collect();
        let listeners = Listeners::open(hosts.iter().flatten(), &network, &self.process)?;
        let _servers = listeners.serve(&pull::documents(attach.wanted))?;
        let pull_all = || -> Result<Vec<Outcome>> {
            let pulled = hosts.iter().zip(attach.wanted).map(|(host, one)| match host {
                Ok(_) => pull::by_digest(attach, one),
                Err(obstacle) => Ok(Err(obstacle.clone())),
            });
            pulled.collect()
        };
        if listeners.names.is_empty() {
            return Ok(pull_all()?);
        }
        let names: Vec<&str> = listeners.names.iter().map(|(name, _)| name.as_str()).collect();
        attach.progress.note(&led(&names.join(", ")));
        let outcomes = self.with_names(&listeners.names, attach, pull_all)?;
        // Until the cache expires the engine would connect here, so no other user may take the port.
        pause(CACHE, || attach.interrupt.check())?;
        Ok(outcomes)
    }
}

impl Preflight {
    /// Runs `act` while the names are redirected.
    fn with_names(
        self,
        names: &[(String, IpAddr)],
        attach: &Attach<'_>,
        act: impl FnOnce() -> Result<Vec<Outcome>>,
    ) -> Result<Vec<Outcome>, Failed> {
        let content = self.copy(names)?;
        let record = UndoRecord {
            overmount: self.overmount,
            namespaces: self.process.namespaces().clone(),
            steps: Vec::new(),
        };
        let acted = attach.journaled(record, |session| {
            session.step(Step::Overmount, |record, folder| {
                record
                    .overmount
                    .mount_in(&record.namespaces, &content, &folder.source())
            })?;
            pause(CACHE, || attach.interrupt.check())?;
            act()
        })?;
        Ok(acted?)
    }

    fn copy(&self, names: &[(String, IpAddr)]) -> Result<Vec<u8>> {
        let path = self.overmount.path();
        let read = self.process.namespaces().with_files(|| fs::read(path));
        let original = read.and_then(|read| read).map_err(Error::io("read", path))?;
        Ok(file::with(&original, names))
    }
}

/// The note for the users of the host.
fn led(names: &str) -> String {
    format!(
        "for about {SECONDS} seconds these names lead to this process, for every program that reads the same {PATH}: \
         {names}"
    )
}

/// The sockets in place of registries.
struct Listeners {
    listeners: Vec<TcpListener>,
    /// Bound HTTPS ports that refuse connections, and that no other process can use.
    _refusing: Vec<OwnedFd>,
    /// Names that must resolve to these addresses.
    names: Vec<(String, IpAddr)>,
}

impl Listeners {
    fn open<'p>(
        hosts: impl Iterator<Item = &'p RegistryHost>,
        network: &Network,
        process: &Process,
    ) -> Result<Listeners, Obstacle> {
        let (local, named): (Vec<RegistryHost>, Vec<RegistryHost>) =
            hosts.cloned().partition(|host| host.loopback.is_some());
        let mut loopback: Vec<SocketAddr> = local
            .iter()
            .filter_map(|host| Some(SocketAddr::new(host.loopback?, host.port())))
            .collect();
        loopback.sort_unstable();
        loopback.dedup();
        let mut listeners = bind(process, &loopback)?;
        let mut refusing = Vec::new();
        let mut names = Vec::new();
        if !named.is_empty() {
            let mut ports: Vec<u16> = named.iter().map(RegistryHost::port).collect();
            ports.sort_unstable();
            ports.dedup();
            let mut closed: Vec<u16> = named.iter().filter_map(RegistryHost::refusing).collect();
            closed.dedup();
            let mut last = None;
            let bound = registry_host::address(&named, network).find_map(|ip| {
                let at: Vec<SocketAddr> = ports.iter().map(|port| (ip, *port).into()).collect();
                let closed: Vec<SocketAddr> = closed.iter().map(|port| (ip, *port).into()).collect();
                let bound = bind(process, &at).and_then(|bound| Ok((bound, close(process, &closed)?)));
                match bound {
                    Ok(bound) => Some((ip, bound)),
                    // Another process, perhaps another sealift, was faster.
                    Err(obstacle) => {
                        last = Some(obstacle);
                        None
                    }
                }
            });
            let Some((ip, (bound, closed))) = bound else {
                return Err(last.unwrap_or_else(|| {
                    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                    Obstacle::new(
                        format!(
                            "no loopback address has all of the ports {} free",
                            ports.join(", ")
                        ),
                        Remedy::LoadByRegistry,
                    )
                }));
            };
            listeners.extend(bound);
            refusing.extend(closed);
            names.extend(named.into_iter().map(|host| (host.host, IpAddr::from(ip))));
            names.sort();
            names.dedup();
        }
        Ok(Listeners {
            listeners,
            _refusing: refusing,
            names,
        })
    }

    fn serve(&self, documents: &Documents) -> Result<Vec<Server>, Obstacle> {
        let start = |listener: &TcpListener| Server::start(listener.try_clone()?, documents.clone());
        self.listeners
            .iter()
            .map(|listener| {
                start(listener)
                    .map_err(|error| Obstacle::new(format!("the manifests cannot be served: {error}"), ""))
            })
            .collect()
    }
}

/// Listens on addresses of dockerd's network.
fn bind(process: &Process, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Obstacle> {
    all(process, addresses, |address| TcpListener::bind(address))
}

/// Binds addresses without listening: connections are refused, and no other process can listen.
fn close(process: &Process, addresses: &[SocketAddr]) -> Result<Vec<OwnedFd>, Obstacle> {
    all(process, addresses, |address| {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, address)?;
        Ok(socket)
    })
}

fn all<T: Send>(
    process: &Process,
    addresses: &[SocketAddr],
    take: impl Fn(&SocketAddr) -> io::Result<T> + Sync,
) -> Result<Vec<T>, Obstacle> {
    let one = |address: &SocketAddr| {
        take(address).map_err(|error| {
            Obstacle::new(
                format!(
                    "port {} of {} cannot be bound: {error}",
                    address.port(),
                    address.ip()
                ),
                format!("ss -ltnp 'sport = :{}' shows what is there", address.port()),
            )
        })
    };
    process
        .namespaces()
        .with_network(|| addresses.iter().map(one).collect())
        .unwrap_or_else(|error| {
            Err(Obstacle::new(
                format!("dockerd's network cannot be entered: {error}"),
                "",
            ))
        })
}
